"""One small predicate per false-positive rule. A filter sets a span's kind; nothing is forgotten.

`example` marks what would identify nobody and open nothing: placeholders, documentation values,
loopback addresses. `licence` marks attribution. Filters look at the value and at a bounded stretch
of its line, so they cost the same in a file of one 50 MB line. They apply to spans from patterns
and from the model alike.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from pii.redact import is_gibberish
from pii.spans import Span

_REACH = 160
"""Characters of a line that a filter looks at on either side of a span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One named rule: spans of these labels for which it holds get this kind."""

    name: str
    description: str
    labels: tuple[str, ...]
    kind: str
    holds: Callable[[str, Span], bool]
    """Given the document and a span of one of the labels."""


def _before(text: str, span: Span) -> str:
    """What stands before the span on its line, at most `_REACH` characters."""
    near = text[max(0, span.start - _REACH) : span.start]
    return near[max(near.rfind("\n"), near.rfind("\r")) + 1 :]


def _after(text: str, span: Span) -> str:
    """What stands after the span on its line, at most `_REACH` characters."""
    near = text[span.end : span.end + _REACH]
    return re.split(r"[\r\n]", near, maxsplit=1)[0]


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LONGEST_WORD = 16


def _spelled_from(value: str, core: frozenset[str], filler: frozenset[str]) -> bool:
    """Whether a value is nothing but these words, glued or separated, at least one of the core.

    `my_secret_password` and `testpass` are; `radpass` is not. Trailing digits are not looked at.
    """
    value = value.lower().rstrip("0123456789")
    if not value or len(value) > 80:
        return False
    reached: list[bool | None] = [None] * (len(value) + 1)  # None: no; True: with a core word
    reached[0] = False
    for at in range(len(value)):
        with_core = reached[at]
        if with_core is None:
            continue
        if value[at] in "-_ .":
            reached[at + 1] = reached[at + 1] or with_core
        for end in range(at + 1, min(len(value), at + _LONGEST_WORD) + 1):
            word = value[at:end]
            if word in core:
                reached[end] = True
            elif word in filler:
                reached[end] = reached[end] or with_core
    return bool(reached[-1])


_FILLER = _words(
    """my your our the some any an this that test testing new old bad wrong good valid invalid the
    default fallback example sample dummy fake super very really top strong secure insecure not
    insert enter change changed plain another other correct incorrect no non here value for with to
    of in is goes replace please it put add delete create update long short custom random db
    database github gitlab docker mysql mariadb postgres postgresql mongo mongodb redis ldap smtp
    imap ftp sftp ssh pma auth oauth oauth2 master admin root user users login account service app
    application api aws gcp azure google slack web http https host remote local first last full
    email mail unit mock mocked stub regular simple basic hidden real actual existing unknown"""
)
"""Words that turn no placeholder into a value."""


# --- IP addresses -------------------------------------------------------------------------------

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_DOCUMENTATION_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        # RFC 5737, 3849, 9637, and the benchmarking networks of RFC 2544 and 5180
        (
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
            "198.18.0.0/15",
            "2001:2::/48",
        ),
    )
)
_PUBLIC_RESOLVERS = frozenset(
    map(
        ipaddress.ip_address,
        # BigCode's list (bigcode-dataset, pii_redaction/utils.py) and the same resolvers' IPv6
        (
            "8.8.8.8",
            "8.8.4.4",
            "1.1.1.1",
            "1.0.0.1",
            "76.76.19.19",
            "76.223.122.150",
            "9.9.9.9",
            "149.112.112.112",
            "208.67.222.222",
            "208.67.220.220",
            "8.26.56.26",
            "8.20.247.20",
            "94.140.14.14",
            "94.140.15.15",
            "2001:4860:4860::8888",
            "2001:4860:4860::8844",
            "2606:4700:4700::1111",
            "2606:4700:4700::1001",
            "2620:fe::fe",
            "4.2.2.1",
            "4.2.2.2",
            "114.114.114.114",
            "223.5.5.5",
            "223.6.6.6",
        ),
    )
)


_NAT64 = int(ipaddress.IPv6Address("64:ff9b::")) >> 32


@lru_cache(maxsize=1024)
def _parse_ip(value: str) -> _IPAddress | None:
    try:
        parsed = ipaddress.ip_address(value.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if embedded is not None:
            return embedded
        prefix, low = int(parsed) >> 32, int(parsed) & 0xFFFFFFFF
        if prefix == _NAT64 or (prefix == 0 and low > 0xFFFF):  # RFC 6052; ::a.b.c.d of RFC 4291
            return ipaddress.IPv4Address(low)
    return parsed


def _not_an_ip(text: str, span: Span) -> bool:
    return _parse_ip(text[span.start : span.end]) is None


def _private_ip(text: str, span: Span) -> bool:
    address = _parse_ip(text[span.start : span.end])
    return address is not None and (
        not address.is_global or address.is_multicast or address.is_reserved
    )


def _documentation_ip(text: str, span: Span) -> bool:
    address = _parse_ip(text[span.start : span.end])
    return address is not None and any(address in net for net in _DOCUMENTATION_NETWORKS)


def _netmask_or_network(text: str, span: Span) -> bool:
    address = _parse_ip(text[span.start : span.end])
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        bits = f"{int(address):032b}"
        return "01" not in bits or int(address) & 0xFFFF == 0
    return int(address) & ((1 << 96) - 1) == 0


def _public_resolver(text: str, span: Span) -> bool:
    return _parse_ip(text[span.start : span.end]) in _PUBLIC_RESOLVERS


def _made_up_ip(text: str, span: Span) -> bool:
    """Octets that repeat or step evenly (5.6.7.8, 44.44.44.44), 12.34.56.78, dead:beef."""
    address = _parse_ip(text[span.start : span.end])
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        groups = address.exploded.lower().split(":")
        filled = [group for group in groups if group != "0000"]
        words = sum(group in ("dead", "beef", "cafe", "babe", "abcd", "1234") for group in groups)
        return (len(filled) <= 2 and groups[1] == "0000") or words >= 2 or groups[0] == "dead"
    octets = [int(octet) for octet in str(address).split(".")]
    evenly = len({b - a for a, b in pairwise(octets)}) == 1 or octets[:3] == [1, 2, 3]
    if evenly or len(set(octets[:3])) == 1 or octets[1:] == [0, 0, 1]:
        return True
    digits = "".join(map(str, octets))
    return digits in "12345678901234567890" or digits in "98765432109876543210"


# --- E-mail addresses ---------------------------------------------------------------------------

_EXAMPLE_TLDS = frozenset(
    "test example invalid localhost local localdomain internal lan tld home corp".split()
)
_EXAMPLE_DOMAIN = re.compile(
    r"(?:[a-z0-9-]{1,63}\.){0,8}(?:"
    r"example|examples|exemple|foo|bar|baz|qux|foobar|foo-bar|test|tests|testing|domain|mydomain|"
    r"yourdomain|your-domain|somedomain|anydomain|otherdomain|company|yourcompany|your-company|"
    r"mycompany|somewhere|nowhere|myhost|hostname|server|yourserver|site|mysite|yoursite|email|"
    r"emailaddress|address|fake|fakemail|dummy|sample|invalid|none|nospam|acme|abc|xyz|xxx|blah|"
    r"doe|bloggs|whatever|provider|organization|domain-one|placeholder|website|contoso|fabrikam"
    r")(?:\.(?:co|com|org|net|ac|gov|edu))?\.[a-z]{2,10}|"
    r"(?:[a-z]|aa|bb|aaa|bbb|host|127\.0\.0\.1)(?:\.[a-z]{1,3})?"
)
_DOMAIN_CORE = _words("domain domains example examples company server website")
_DOMAIN_FILLER = _words("custom another second sub mail your my our the some any other test")
_GETTEXT = ("ll", "li.org")
"""What gettext writes into the head of every catalogue that nobody has filled in."""
_PLACEHOLDER_LOCAL = re.compile(
    r"(?:john|jane|joe|john[._-]?doe|jane[._-]?doe|jdoe|joe[._-]?(?:user|bloggs|blow)|your|you|"
    r"your[._-]?(?:name|e?mail|address|username)|my[._-]?e?mail|first[._+-]?(?:name)?[._+-]?last"
    r"(?:name)?|foo|bar|foobar|foo[._+-]bar|test|tester|testing|test[._-]?user|test\d{1,3}|"
    r"user\d{0,3}|username|user[._-]?name|someone|somebody|example|abc|xyz|xxx+|name|e?mail|"
    r"login|dummy|fake|me|jan[._-]?(?:nowak|kowalski)|max[._-]?mustermann|alice|bob)"
)
_FREE_MAIL = re.compile(
    r"(?:gmail|googlemail|yahoo|hotmail|outlook|live|aol|icloud|gmx|qq|163)\..*"
)


_AT = re.compile(r"@|%40|[\W_](?:at|ta)[\W_]", re.IGNORECASE)
_HIDDEN_AT = re.compile(r"[\s\[({<\\_]{1,6}at[\s\])}>\\_]{1,6}", re.IGNORECASE)
_HIDDEN_DOT = re.compile(r"[\s\[({<\\_]{1,6}dot[\s\])}>\\_]{1,6}", re.IGNORECASE)


def _not_an_email(text: str, span: Span) -> bool:
    return not _AT.search(text[span.start : span.end][:320])


def _split_email(value: str) -> tuple[str, str]:
    """Local part and domain in lower case, also of one written out ("john at foo dot org")."""
    local, at, domain = value.strip("<>\"' ").rpartition("@")
    if not at:
        local, *rest = _HIDDEN_AT.split(domain, maxsplit=1)
        domain = _HIDDEN_DOT.sub(".", rest[0]) if rest else ""
    return local.lower(), domain.lower().rstrip(".")


def _example_domain(text: str, span: Span) -> bool:
    local, domain = _split_email(text[span.start : span.end])
    if domain.rpartition(".")[2] in _EXAMPLE_TLDS or _EXAMPLE_DOMAIN.fullmatch(domain):
        return True
    name = domain.split(".")[-2] if "." in domain else ""
    return _spelled_from(name, _DOMAIN_CORE, _DOMAIN_FILLER) or (local, domain) == _GETTEXT


def _placeholder_email(text: str, span: Span) -> bool:
    local, domain = _split_email(text[span.start : span.end])
    if domain and re.match(r"(?:my|your|some|dummy|fake|example|sample)[-_]", local):
        return True
    if local in ("s", "d") and text[span.start - 1 : span.start] == "%":  # "%s@corp.io"
        return True
    if not domain or not _PLACEHOLDER_LOCAL.fullmatch(local):
        return False
    specific = re.fullmatch(r"me|login|e?mail|name|alice|bob|john|jane|joe|jdoe|your|you", local)
    return specific is None or bool(_FREE_MAIL.fullmatch(domain))


_ALGORITHM = re.compile(
    r"(?:.*-(?:gcm|ctr|cbc|etm|poly1305|sha1|sha256|sha512|cert-v0[01]|ed25519|nistp\d+|x25519|"
    r"sntrup\w*|aes|agent|req|strict.*)|(?:sk-)?(?:ssh|ecdsa)-.*|(?:hmac|umac|aes|chacha|sntrup|"
    r"curve|rijndael|kex|zlib|ext|auth|eow|no-more|hostkeys|posix|statvfs|fstatvfs|hardlink|fsync|"
    r"lsetstat|limits|expand-path|copy-data|home-directory|users-groups|tun|streamlocal|"
    r"direct|forwarded|cancel|session|keepalive|publickey|ping|pong)[\w-]*)@(?:openssh\.com|libssh\.org|"
    r"ssh\.com|lysator\.liu\.se|tinyssh\.org|putty\.projects\.tartarus\.org)",
    re.IGNORECASE,
)


def _algorithm_name(text: str, span: Span) -> bool:
    return bool(_ALGORITHM.fullmatch(text[span.start : span.end]))


_CODE_HOST = re.compile(r"github|gitlab|bitbucket|gitea|codeberg|^git\.|^hg\.|^svn\.|sr\.ht")


def _repository_address(text: str, span: Span) -> bool:
    local, domain = _split_email(text[span.start : span.end])
    after = text[span.end : span.end + 80]
    if local in ("git", "hg", "svn") and (_CODE_HOST.search(domain) or re.match(r"[:/]\w", after)):
        return True
    if re.match(r":[\w.~-]{0,60}/?[\w.-]{1,60}/[\w./-]", after):
        return True
    return bool(re.search(r"\b(?:ssh|scp|rsync|sftp) [^\n]{0,60}\Z", _before(text, span)))


_MESSAGE_ID = re.compile(
    # What mail programs make of the time and of chance; no person has such a local part.
    r"\d{14,}|\d{14}\.[a-z]{2}\d{1,8}|[0-9a-f]{8}\.\d{6,8}|[0-9a-f]{32,}|[0-9a-z]{8,12}\.fsf(?:_-_)?|"
    r"\d{9,13}[.-]\d{1,8}[.-][\w.-]{1,60}|\d{9,13}\.\d{4,9}\.\d{9,13}\.[\w.]{1,40}"
)


def _message_id(text: str, span: Span) -> bool:
    before = _before(text, span)
    if re.search(r"(?:message-?id|in-reply-to|references|content-id|cid:)", before, re.IGNORECASE):
        return True
    local, domain = _split_email(text[span.start : span.end])
    if domain == "mail.gmail.com" or _MESSAGE_ID.fullmatch(local):
        return True
    digits = sum(char.isdigit() for char in local)
    return (
        text[span.start - 1 : span.start] == "<" and len(local) >= 16 and digits >= len(local) / 2
    )


def _principal(text: str, span: Span) -> bool:
    """user@host without a top-level domain, as in node names and Kerberos principals."""
    value = text[span.start : span.end]
    local, _, domain = value.rpartition("@")
    if not local:  # "john at foo dot org" has no @, and is an address
        return False
    return "." not in domain or domain.startswith("[")


# --- Names --------------------------------------------------------------------------------------

_PLACEHOLDER_NAMES = frozenset(
    """john doe|jane doe|johnny doe|jon doe|john smith|jane smith|joe smith|john roe|jane roe|
    richard roe|joe bloggs|joe blow|joe user|joe public|john q. public|fred bloggs|
    foo bar|foo|bar|foo barson|max mustermann|erika mustermann|jan nowak|jan kowalski|
    jean dupont|john|jane|joe|jim|bob|alice|eve|mallory|carol|dave|trent|anne|george|mark|sam|mary|
    tom|dick|harry|test user|user one|user two|test|tester|real name|full name|first last|
    firstname lastname|first name|last name|your name|my name|author name|first author|
    name surname|some user|some name|some one|someone|somebody|nobody|anonymous|unknown|
    your name here|name here|bob smith|alice smith|alice bob|lorem ipsum|debian janitor|taylor|
    john public|jane public|jack|jill|mike|peter|paul|ann|anna|susan|steve|bill""".replace(
        "\n    ", ""
    ).split("|")
)


def _placeholder_name(text: str, span: Span) -> bool:
    name = re.sub(r"[\s._]+", " ", text[span.start : span.end]).strip().lower()
    return re.sub(r"\s?\d+$", "", name) in _PLACEHOLDER_NAMES


# --- User names ---------------------------------------------------------------------------------

_SYSTEM_USERS = frozenset(
    """root admin administrator user users username user_name user-name login loginname guest test
    tester testing foo bar baz qux foobar nobody anonymous anon default someone somebody me owner
    daemon bin sys system sync games man lp mail news uucp proxy backup list irc gnats operator
    postgres postgresql mysql mariadb mongo mongodb redis rabbitmq elastic kibana neo4j oracle sa
    scott dba db dbuser dbadmin www www-data apache nginx httpd http web webmaster hostmaster
    postmaster ftp ftpuser sftp ssh sshd git svn hg jenkins travis circleci runner runneradmin
    vagrant ubuntu debian centos fedora ec2-user core pi docker kubernetes k8s node npm app
    appuser deploy deployer build builder buildbot ci bot service svc daemon vscode codespace
    coder gitpod gitlab github github-actions actions x-access-token oauth2 oauth2accesstoken token
    apikey api_key __token__ key_id keyid client clientid client_id vmail dovecot dovenull postfix
    exim opendkim radius freerad proftpd ldap squid named bind ntp systemd messagebus avahi polkitd
    rtkit pulse colord haldaemon alice bob carol dave eve mallory john jane jdoe johndoe john.doe
    john_doe janedoe jane.doe jane_doe joe joeuser doge name email password pass myuser my_user
    my-user myusername my_username yourname your-name your_name yourusername your-username
    your_username youruser your_user your-user some-user some_user someuser username1 user1 user2
    user3 testuser test_user test-user newuser new_user superuser sysadmin su sudo public shared
    unknown none null undefined true false example sample demo dummy linuxserver homeassistant
    masteruser adminuser dbo sysdba informix db2inst1 minio minioadmin tomcat laravel sail forge
    wordpress drupal joomla magento vpn wheel staff smoke uid login_name account linuxbrew vsts
    jovyan airflow hadoop hdfs hive spark zeppelin jboss wildfly nonroot appveyor container odoo
    steam minecraft rails frappe ansible puppet chef zabbix nagios icinga grafana prometheus tor
    buildslave concourse drone teamcity bamboo sonar nexus artifactory cassandra kafka zookeeper
    memcached couchdb solr logstash splunk rstudio shiny condor slurm munge ceph nova cinder glance
    neutron keystone stack openstack opc azureuser adminuser localuser default_user runneruser
    fluent fluentd telegraf influxdb vault consul etcd haproxy varnish traefik caddy lighttpd php
    php-fpm cyrus asterisk freeswitch gdm lightdm sddm shared-user all-users public-user webapp
    website site domain desktop laptop workstation html media static data files tmp home projects
    share src work workspace""".split()
)
_USER_CORE = _words(
    """user users username usr login account owner member admin administrator name handle customer
    guest person nickname userid uid nick somebody someone tester editor viewer staff manager sid
    sender template"""
)
_PLACEHOLDER_USER = re.compile(
    r"\w{1,2}|x+|y+|z+|foo\d+|bar\d+|test\d+|[\w-]{1,39}\[bot\]", re.IGNORECASE
)


_CODE_SITE = (
    r"(?<![\w.-])(?:www\.)?(?:github\.com|raw\.githubusercontent\.com|gitlab\.com|bitbucket\.org|"
    r"codeberg\.org)[/:]"
)
_OWNER_BEFORE = re.compile(
    rf"(?:{_CODE_SITE}|\"repository\"\s?:\s?\"(?:github:)?|\buses:\s{{1,4}}[\"']?)\Z"
)
_REPOSITORY_AFTER = re.compile(r"/([A-Za-z0-9_][\w.-]{0,99})")
_REPOSITORY_BEFORE = re.compile(rf"{_CODE_SITE}(?!sponsors/)[\w.-]{{1,40}}/[\w.-]{{0,60}}\Z")
_HOME_BEFORE = re.compile(r"/(?:(?:home|Users)/|~)[\w.<>-]{1,40}/[\w./-]{0,60}\Z")
_HOST_BEFORE = re.compile(r"://[\w.-]{0,60}\Z")
_HOST_AFTER = re.compile(
    r"[\w-]{0,60}\.(?!(?:git(?:hub|lab)|blogspot|wordpress)\.)[\w.-]{1,60}(?!\w|@|:[^@/\s]{0,80}@)"
)


def _url_part(text: str, span: Span) -> bool:
    """Scheme, host, repository, or its owner of the same name in a URL; a path in a home."""
    before, after = text[max(0, span.start - 120) : span.start], text[span.end : span.end + 120]
    if after.startswith("://") or _REPOSITORY_BEFORE.search(before) or _HOME_BEFORE.search(before):
        return True
    if _OWNER_BEFORE.search(before) and _is_owner_of_its_name(
        text[span.start : span.end].lower(), after.lower()
    ):
        return True
    return bool(_HOST_BEFORE.search(before) and _HOST_AFTER.match(after))


def _is_owner_of_its_name(owner: str, after: str) -> bool:
    """Whether a repository's name is part of its owner's or the other way: acme/acme-api.

    No person of the training windows has such a repository.
    """
    repository = _REPOSITORY_AFTER.match(after)
    if repository is None:
        return False
    name = repository[1].removesuffix(".git").strip(".")
    if name.endswith((".github.io", ".gitlab.io")):  # somebody's pages
        return False
    stem = name.partition(".")[0]
    return min(len(stem), len(owner)) > 2 and (stem in owner or owner in name)


_ORGANISATIONS = _words(
    """18f 42bv a11yproject abseil acme actions activeadmin adafruit adobe aio-libs airbnb akka
    algolia alibaba allenai amzn anchore android angular ansible ansible-collections ant-design
    antlr apache apereo apollographql appium apple appveyor arduino arm-software asdf-vm asyncapi
    atlassian auth0 autodesk automattic aws aws-actions aws-samples awslabs axios azure azuread
    babel backbone bazelbuild benchmark-action bitcoin bitnami bitwarden blender boostorg bower
    braintree brave brightcove bufbuild bugsnag buildpacks bytecodealliance bytedance c-ares
    cakephp canonical celery ceph certbot chalk charmbracelet chefkeeper cilium circleci
    clickhouse cloudflare cloudfoundry cncf cockroachdb codecov codeigniter codemirror
    coffeescript composer conda conda-forge confluentinc containerd containers coreos cosmos
    couchbase cpp-httplib crate cucumber cupy curl cypress-io cython d3 dart-lang dask databricks
    datadog datastax dcloudio debian definitelytyped deislabs denoland discourse django
    django-oscar docker docker-library doctrine dotnet dropbox drupal eclipse elastic electron
    elixir-lang elm emacs-mirror emberjs encode envoyproxy erlang es-shims esnext etcd-io ethereum
    exercism expressjs fabric facebook facebookincubator facebookresearch fasterxml fastify
    feathersjs fedora-infra ffmpeg firebase fish-shell flatpak fluent flutter fortawesome freebsd
    freedesktop freeipa freerdp friendsofphp friendsofsymfony gatsbyjs getsentry ghost gin-gonic
    git git-lfs github githubocto gitlab gitlabhq gnome gnu go-check go-chi go-gorm go-kit go-logr
    go-openapi go-playground go-redis go-sql-driver go-yaml gofrs gogits gogo goharbor golang
    golang-jwt golangci google google-github-actions googleapis googlechrome googlecloudplatform
    gorilla gradle grafana grails graphql grpc grpc-ecosystem gruntjs gulpjs guzzle h5bp haml
    hapijs hashicorp haskell haxefoundation helm heroku hexojs home-assistant homebrew httpie
    hubotio huggingface hyperium hyperledger ibm icu4j ietf influxdata intel intellij ionic-team
    ipfs istio iterative jasmine jazzband jboss jekyll jenkins-x jenkinsci jestjs jetbrains jquery
    json-api json-schema json-schema-org julialang junit-team jupyter jupyter-server jupyterlab
    k3s-io kaggle karma-runner kde keras-team khronosgroup kitware knex kong kotlin kubernetes
    kubernetes-client kubernetes-csi kubernetes-sigs kylinsoft laminas langchain-ai laravel latte
    leaflet less lettuce-io level lib libgit2 libuv linkedin linkerd linux-audit linux-nfs
    linux-pam llvm loadimpact localstack lodash lua magento mantine-dev mapbox mariadb markedjs
    mashape material-components materialize matomo-org matplotlib mattermost metacpan meteor
    micronaut microsoft mime-types mit moby mochajs moment mongodb mongodb-js mono mozilla
    mozilla-mobile mozilla-services msgpack mui mysql n8n-io nasa nats-io ndjson neovim nestjs
    netbox netdata netflix netlify netty nextcloud nginx nginxinc nixos nltk nock node-fetch
    nodejitsu nodejs nodemailer nodeschool notaryproject npm numpy nuxt nvidia nvm-sh oai oauth-wg
    oauth2-proxy octokit odoo offensive-security officedev ohmyzsh onelogin open-mpi
    open-policy-agent open-quantum-safe open-telemetry openai openapitools opencontainers opencv
    openid openjdk openresty openshift openssh openssl openstack opensuse opentracing openvpn
    openwrt openzeppelin oracle ory osgeo owasp owncloud palantir pallets pallets-eco pandas-dev
    parcel-bundler passport paypal pelican percona perl petstore phoenixframework php php-fig
    phpmyadmin phpstan pika pingcap pinterest pivotal pkg pkgjs plotly pmndrs pocoo pointfreeco
    postcss postgres postgresql postmanlabs powershell preactjs prettier prisma projectatomic
    projectcalico prometheus protobufjs psf psr psycopg puma puppeteer puppetlabs purescript
    py-pdf pybuilder pyca pycontribs pycqa pydantic pydata pyenv pyinstaller pypa pypi pypy
    pyramid pytest-dev python python-attrs python-pillow python-poetry pytorch qmk qt quarkusio
    rabbitmq rack rackspace rails raspberrypi ray-project react-bootstrap react-component
    reactivex reactjs readthedocs redhat redis redis-rb reduxjs remix-run request resque restic
    restify rollup rom-rb rspec rstudio rubocop rubocop-hq ruby rubygems rust-lang
    rust-lang-nursery sagemath salesforce saltstack samba sass scala scikit-learn scipy scrapy sdl
    segmentio seleniumhq semantic-release sendgrid sentry serverless servo shopify signalapp
    sinatra sinonjs slackapi slackhq slimphp slint-ui smallstep snyk socketio socketry solana-labs
    solidusio sonarsource sourcegraph spaceship-prompt sphinx-doc splunk spotify spring-cloud
    spring-io spring-projects sqlalchemy sqlite square squid-cache sshnet standard statsd
    statsmodels strapi stretchr stripe strongloop stylelint sumologic supabase sveltejs
    swagger-api swc-project swiftlang symfony symfony-cmf sympa sympy systemd tailwindlabs tc39
    tcltk telegramdesktop tencent tensorflow terraform-aws-modules thephpleague theupdateframework
    thoughtbot tinymce tokio-rs toml-lang torproject trailofbits travis-ci tsuru twbs twilio
    twisted twitter typescript-eslint typo3 uber uber-go ubuntu uikit ultralytics unicode-org unjs
    unshiftio upptime vagrant valkey-io vercel vim vitejs vmware voxpupuli vscode vuejs vuetifyjs
    w3c wagtail weaveworks web-platform-tests webassembly webpack webpack-contrib webrtc
    websockets whatwg wikimedia wildfly winstonjs woocommerce wordpress x-stream xamarin xing
    yahoo yandex yarnpkg yeoman yiisoft youtube zalando zeit zend zendframework zerobrew zeromq
    zeromq-js zopefoundation zsh-users"""
)
"""Accounts of code hosts that belong to no person."""
_OF_ORGANISATION = re.compile(
    r"[\w-]{2,36}(?:js|[-_](?:org|team|labs?|hq|io|project|group|foundation|community|software|"
    r"lang|apis?|sdk|tools|server|inc|ltd|plugins?|modules?|archive|contrib|core|framework))|"
    r"(?:team|project|the)-[\w-]{2,36}|open[a-z]{5,30}|[\w-]{2,36}(?:foundation|project|software|"
    r"framework|community|collective|labs|cloud|robotics|systems|university|apis|hub|corp)"
)


def _organisation(text: str, span: Span) -> bool:
    """The account of an organisation or project, by its name."""
    value = text[span.start : span.end].lower()
    return value in _ORGANISATIONS or _OF_ORGANISATION.fullmatch(value) is not None


_CODE_BEFORE = re.compile(r"(?:[\w)\]]\.|->|::|</|\$|</?[\w-]{1,20}:|(?:\A|[\s\"'`\[])--?)\Z")
_CODE_AFTER = re.compile(r"\(|->|::|\[[\w\"']|\.[A-Za-z_]\w{0,60}\(|\s?=\s?[A-Za-z_][\w.]{0,60}\(")
_DECORATED = re.compile(r"\.[A-Za-z_]\w")
_TAG_AFTER = re.compile(r"[\s:]\w")


def _code_user(text: str, span: Span) -> bool:
    """An identifier of code: called, indexed, a member or a variable; a tag, option or number."""
    before, after = text[max(0, span.start - 24) : span.start], text[span.end : span.end + 64]
    value = text[span.start : span.end]
    return (
        value.isdigit()
        or after.startswith('="')
        or (before.endswith("@") and (after[:1] == "@" or _DECORATED.match(after) is not None))
        or _CODE_BEFORE.search(before) is not None
        or (value.isidentifier() and _CODE_AFTER.match(after) is not None)
        or (before.endswith("<") and _TAG_AFTER.match(after) is not None)
    )


_NOTE_BEFORE = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)[:\s-]{1,3}\Z")
_PROSE_AFTER = re.compile(r"[,]?\s[a-z]")


def _note(text: str, span: Span) -> bool:
    """The first word of a note: TODO: check ...; TODO(jane) and TODO: @jane name somebody."""
    before, after = text[max(0, span.start - 12) : span.start], text[span.end : span.end + 3]
    return bool(_NOTE_BEFORE.search(before) and _PROSE_AFTER.match(after))


def _system_user(text: str, span: Span) -> bool:
    return text[span.start : span.end].lower() in _SYSTEM_USERS


def _placeholder_user(text: str, span: Span) -> bool:
    value = text[span.start : span.end]
    core = _USER_CORE | _KEY_CORE
    return bool(_PLACEHOLDER_USER.fullmatch(value)) or _spelled_from(value, core, _FILLER)


# --- Passwords ----------------------------------------------------------------------------------

_PASSWORD_CORE = _words(
    """password passwords passwd passwort passphrase pass phrase word passw0rd pa55w0rd p@ssw0rd
    p@ssword pasword passw pwd pswd psw pw secret secrets credentials credential"""
)
_TOKEN_CORE = _words("token tokens key apikey appid")
_TOKEN_FILLER = _words("access api app auth bearer hook jwt master secret session webhook wrong")
_WEAK_PASSWORDS = frozenset(
    """changeme change-me change_me changeit change-it change_it changethis change-this fixme todo
    test tests testing test1 test12 test123 test1234 testing123 tester foo bar baz qux foobar
    foobaz foo123 bar123 hello world helloworld admin admin123 administrator root toor user guest
    demo example sample dummy fake letmein welcome welcome1 qwerty qwerty123 qwertyuiop qwertzuiop
    asdf asdfgh asdfghjkl asdfghjkl; zxcvbn abc abc123 abcd abcd1234 abcdef abcdefg abcdefgh
    abcdefghij 1q2w3e 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 12345asdfg iloveyou monkey dragon master
    something anything whatever none null nil undefined true false empty string value redacted
    removed hidden masked plain plaintext hash unsecure insecure notsecret nopass nopassword blank
    required optional prompt ask wrong bad good invalid valid correct pending runtime mongo mongodb
    postgres mysql mariadb redis oracle sa vagrant docker ubuntu minio minioadmin rabbitmq elastic
    xxx xxxx yyyy zzzz asd aaa aaaa bbb a b c x y z""".split()
)
_PASSWORD_HASH = re.compile(
    r"\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|argon2\w{1,2}|scrypt|pbkdf2[-\w]*|bcrypt[-\w]*|P|H|S)\$.+|"
    r"\{(?:S?SHA\d*|S?MD5|CRYPT|PBKDF2[\w-]*|ARGON2|BCRYPT|SMD5|NTLM|CLEARTEXT|PLAIN)[\w.-]*\}.*|"
    r"(?:pbkdf2_sha\d+|bcrypt(?:_sha256)?|argon2\w*|scrypt|sha1|md5|sha256|sha512)\$.+|"
    r"SCRAM-SHA-\d+\$.+|md5[0-9a-f]{32}|\*[0-9A-F]{40}|"
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})|"
    r"(?:[0-9A-F]{32}|[0-9A-F]{40}|[0-9A-F]{64}|[0-9A-F]{128})"
)


def _placeholder_password(text: str, span: Span) -> bool:
    return _is_placeholder_password(text[span.start : span.end].strip("\"'`<>[]() "))


def _is_placeholder_password(value: str) -> bool:
    if re.fullmatch(r"\d{1,4}", value) or (value.isdigit() and value in "12345678901234567890"):
        return True
    if re.fullmatch(r"secret\d{2,}", value, re.IGNORECASE):
        return False  # specific enough to be somebody's (annotation guidelines)
    return (
        value.lower() in _WEAK_PASSWORDS
        or _spelled_from(value, _PASSWORD_CORE, _FILLER)
        or _spelled_from(value, _TOKEN_CORE, _TOKEN_FILLER)
    )


def _password_hash(text: str, span: Span) -> bool:
    return bool(_PASSWORD_HASH.fullmatch(text[span.start : span.end]))


# --- Keys ---------------------------------------------------------------------------------------

_KEY_CORE = _words(
    """key keys secret secrets token tokens apikey password session value string id verifier access
    refresh bearer client code private public credential credentials webhook hash salt signature"""
)
_PLACEHOLDER_IN_KEY = re.compile(
    r"your[-_ ]?|my[-_ ]?(?:api|secret|access|token|key)|example|sample|placeholder|redacted|"
    r"removed|change[-_ ]?me|insert|replace|dummy|fake|mock|todo|fixme|xxxx|foobar|deadbeef|"
    r"test[-_ ]?(?:key|token|secret|api)|abc123|abcdef|123456789|012345|\.\.\.|\u2026",
    re.IGNORECASE,
)
_WEAK_KEYS = _words(
    """foo bar baz qux abc test testing secret none null nil true false dumbo dummy hello world
    newvalue something anything whatever default value string token key"""
)


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX_DIGEST = re.compile(r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})")
_DIGEST_NEAR = re.compile(
    r"sha-?\d*|md5|hash|checksum|commit|integrity|digest|fingerprint|revision|\brev\b|etag|"
    r"\bgit\b|\bblob\b|\btree\b|parent|crc|thumbprint",
    re.IGNORECASE,
)
_SECRET_NEAR = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_INTEGRITY = re.compile(r"(?:sha(?:1|256|384|512)[-:=]|md5[-:=]|h1:)[A-Za-z0-9+/=_-]+")


def _placeholder_key(text: str, span: Span) -> bool:
    value = text[span.start : span.end].strip("\"'`")[:200]
    return (
        len(value) <= 5
        or value.lower().rstrip("0123456789") in _WEAK_KEYS
        or bool(_PLACEHOLDER_IN_KEY.search(value))
        or _spelled_from(value, _KEY_CORE, _FILLER)
    )


def _plain_key(text: str, span: Span) -> bool:
    """A few words, an identifier without digits, or a short number, as of a telephone."""
    value = text[span.start : span.end][:200]
    if value.isdigit():
        return len(value) <= 15
    words = value.split()
    plain = all(word.isalpha() for word in words) or value.replace("_", "").isalpha()
    return plain and len(words) <= 6 and not is_gibberish(value)


def _encoded_placeholder(text: str, span: Span) -> bool:
    """A Basic authorization value whose password is a placeholder: base64 of user:password."""
    try:
        decoded = base64.b64decode(text[span.start : span.end][:400], validate=True).decode()
    except ValueError:
        return False
    _, colon, password = decoded.partition(":")
    return bool(colon) and _is_placeholder_password(password)


def _low_variety(text: str, span: Span) -> bool:
    """Few different characters, one run repeated, or neighbours of the alphabet in a row."""
    value = text[span.start : span.end][:400]
    body = [char.lower() for char in value if char.isalnum()]
    if len(body) < 6:
        return False
    steps = [ord(b) - ord(a) for a, b in pairwise(body)]
    sequential = max(steps.count(0), steps.count(1), steps.count(-1))
    return sequential >= 0.6 * len(steps) or (len(body) >= 12 and len(set(body)) <= 4)


def _identifier_uuid(text: str, span: Span) -> bool:
    value = text[span.start : span.end].strip("{}")
    return bool(_UUID.fullmatch(value)) and not _SECRET_NEAR.search(_before(text, span))


def _checksum(text: str, span: Span) -> bool:
    value = text[span.start : span.end]
    if _INTEGRITY.fullmatch(value):
        return True
    before = _before(text, span)
    return bool(
        _HEX_DIGEST.fullmatch(value)
        and _DIGEST_NEAR.search(before)
        and not _SECRET_NEAR.search(before)
    )


_PUBLIC_DER = re.compile(
    # Public keys of OpenSSH; SubjectPublicKeyInfo (RSA, elliptic curves, Edwards curves), also as
    # the "p=" of DKIM; RSAPublicKey; certificates (X.509 version 3)
    r"AAAA(?:B3NzaC1|C3NzaC1|E2VjZHNh|GnNr)|(?:p=)?(?:MII[B-E]\wjANBgkqhkiG9w0B|"
    r"MIGfMA0GCSqGSIb3DQEB|MF[kY]wE[wA]YHKoZIzj0C|MHYwEAYHKoZIzj0C|MCowBQYDK2V)|"
    r"MIIBCgKCAQEA|MIGJAoGBA|"
    r"MII[\w+/]{3}CC[\w+/]{3}gAwIB"
)
_MEDIA = re.compile(
    # PNG, JPEG, GIF, RIFF (WebP), SVG, XML, PDF, ZIP, gzip, zlib, OpenType, WOFF, ICO
    r"iVBORw0KGgo|/9j/|R0lGOD|UklGR|PHN2Zy|PD94bW|JVBERi|UEsDB|H4sI|eJ[w-z][\w+/]{100}|"
    r"AAEAAA|T1RUTw|d09G[MR]|AAABAA"
)
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"
_LONGEST_DATA = 16_384
"""Characters of base64 before a span from which on it lies in no key: RSA-8192 has 6,300."""


def _embedded_data(text: str, span: Span) -> bool:
    """Part of an image, a font or an archive in base64, or of any data: URI."""
    at, kept = span.start, 0
    limit = max(0, at - _LONGEST_DATA)
    while at > limit and not kept:
        block = text[max(limit, at - 256) : at]
        kept = len(block.rstrip(_BASE64))
        at -= len(block) - kept
    if span.start - at >= _LONGEST_DATA or text.endswith("base64,", 0, at):
        return True
    # What stands before a blank line is a header.
    at = max(at, text.rfind("\n\n", at, span.start), text.rfind("\n\r\n", at, span.start))
    while at < span.start and text[at] in "\r\n":
        at += 1
    return _MEDIA.match(text, at) is not None


_ARMOUR = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_LONGEST_ARMOUR = 16_384
"""Characters of a certificate or public key in PEM or OpenPGP armour that are looked back over."""


def _public_key(text: str, span: Span) -> bool:
    value = text[span.start : span.end]
    if _PUBLIC_DER.match(value):
        return True
    near = max(0, span.start - _LONGEST_ARMOUR)
    begin = text.rfind("-----BEGIN ", near, span.start)
    armour = _ARMOUR.match(text, begin) if begin >= 0 else None
    return (
        armour is not None
        and "PRIVATE" not in armour[1]
        and text.find("-----END ", begin, span.start) < 0
    )


# --- Any secret ---------------------------------------------------------------------------------

_TEMPLATE = re.compile(
    r"\$\{[^}]{0,80}\}?|\{\{[^}]{0,80}\}\}|\{%[^%]{0,80}%\}|\$\([^)]{0,80}\)|#\{[^}]{0,80}\}|<%[^%]{0,80}%>|"
    r"%\([a-zA-Z_:.-]{1,40}\)[sdr]|%%[A-Z_]{1,40}%%|@@[A-Z_]{1,40}@@"
)
_WHOLE_TEMPLATE = re.compile(
    r"\$[A-Za-z_][A-Za-z0-9_]*|%[A-Z_]+%|%[sdrvqxu@]|\{[a-zA-Z_][\w.]*\}|\{\d*\}|<[^<>]*>|\[[^\]]*\]|"
    r"__[A-Za-z_]+__|@[A-Za-z_]+@|:[a-z_]+"
)
_EXPRESSION = re.compile(
    r"(?!eyJ)[A-Za-z_$][\w$]{0,39}(?:(?:\.|->|::)[A-Za-z_$][\w$]{0,39})+(?:[(\[].*)?|"
    r"[A-Za-z_$][\w$]{0,39}[(\[].*|"
    r"(?:os\.environ|process\.env|getenv|ENV\[|System\.get).*|"
    r"(?:None|null|nil|undefined|true|false|True|False|NULL|self|this|function|return|await|new|"
    r"str|string|String|int|bool|bytes|optional|required)|0x[0-9a-f]{1,16}",
    re.DOTALL,
)
_MASKED = re.compile(r"\W{0,2}\w{0,4}(?:\.{3}|\u2026|\*{3,})\w{0,4}=?")
_TO_FILL_IN = re.compile(r"[A-Za-z]{1,20} [A-Za-z _-]{1,60}")  # <your password here>
_ASSIGNED_TO = re.compile(r"\s?=[\s\"'\w]")
_NO_CONTENT = re.compile(r"(?:&#\d{1,6};?|&[a-z]{2,8};|\\[a-z][+-]?\d{0,2}|[\W_])*+")


def _template(text: str, span: Span) -> bool:
    value = text[span.start : span.end][:300]
    if _TEMPLATE.search(value) or _WHOLE_TEMPLATE.fullmatch(value):
        return True
    before = _before(text, span)
    line = before + value + _after(text, span)
    opens, closes = line.rfind("<", 0, len(before) + len(value)), line.find(">", len(before))
    return 0 <= opens < closes and bool(_TO_FILL_IN.fullmatch(line, opens + 1, closes))


_DECLARES = re.compile(
    r"(?:\A|[^\w])(?:class|def|func|function|struct|enum|trait|interface|import|new|extends|"
    r"return|fn)\s\Z"
)


def _expression(text: str, span: Span) -> bool:
    value = text[span.start : span.end][:300]
    if text.startswith("://", span.end):  # the scheme of a URL
        return True
    if span.label == "PASSWORD" and value.removeprefix(".").isidentifier():
        after = text[span.end : span.end + 3]
        if after.startswith("(") or _ASSIGNED_TO.match(after):
            return True
        if _DECLARES.search(text[max(0, span.start - 12) : span.start]):
            return True
    return bool(_EXPRESSION.fullmatch(value))


def _masked(text: str, span: Span) -> bool:
    return bool(_MASKED.fullmatch(text[span.start : span.end]))


def _fragment(text: str, span: Span) -> bool:
    return len(text[span.start : span.end].strip()) < (3 if span.label == "PASSWORD" else 2)


def _punctuation(text: str, span: Span) -> bool:
    return bool(_NO_CONTENT.fullmatch(text[span.start : span.end]))


# --- Attribution --------------------------------------------------------------------------------

_COPYRIGHT = re.compile(
    r"copyright|copyleft|\(c\)\s|©|&copy;|\bcopr\.|SPDX-FileCopyrightText|\\u00a9",
    re.IGNORECASE,
)


def _copyright_line(text: str, span: Span) -> bool:
    return bool(_COPYRIGHT.search(_before(text, span)))


def _filter(
    name: str,
    description: str,
    labels: str,
    holds: Callable[[str, Span], bool],
    kind: str = "example",
) -> Filter:
    return Filter(
        name=name, description=description, labels=tuple(labels.split()), kind=kind, holds=holds
    )


_PERSONAL = "NAME USERNAME EMAIL"
_SECRET = "KEY PASSWORD"

FILTERS: tuple[Filter, ...] = (
    _filter("not-an-ip", "Not a valid IPv4 or IPv6 address", "IP_ADDRESS", _not_an_ip),
    _filter(
        "private-ip",
        "Private, loopback, link-local, multicast or reserved address (IANA registries)",
        "IP_ADDRESS",
        _private_ip,
    ),
    _filter(
        "documentation-ip",
        "Address of a documentation or benchmarking network (RFC 5737, 3849, 2544)",
        "IP_ADDRESS",
        _documentation_ip,
    ),
    _filter(
        "netmask",
        "Netmask, or a network whose host part is all zero",
        "IP_ADDRESS",
        _netmask_or_network,
    ),
    _filter("public-resolver", "Well-known public DNS resolver", "IP_ADDRESS", _public_resolver),
    _filter(
        "made-up-ip",
        "Obviously made up: 1.2.3.4, 12.34.56.78, 44.44.44.44, dead:beef",
        "IP_ADDRESS",
        _made_up_ip,
    ),
    _filter("not-an-email", 'No "@" and no "at"', "EMAIL", _not_an_email),
    _filter(
        "example-domain",
        "Address at example.*, .test, foo.*, domain.com and the like",
        "EMAIL",
        _example_domain,
    ),
    _filter(
        "placeholder-email",
        "Placeholder local part: john.doe, your.name, firstname.lastname, foo",
        "EMAIL",
        _placeholder_email,
    ),
    _filter(
        "algorithm-name", "SSH algorithm or extension of e-mail form", "EMAIL", _algorithm_name
    ),
    _filter(
        "repository-address",
        "user@host:path of git, ssh, scp or rsync",
        "EMAIL",
        _repository_address,
    ),
    _filter("message-id", "Message-ID and other identifiers of e-mail form", "EMAIL", _message_id),
    _filter("principal", "user@host without a top-level domain", "EMAIL", _principal),
    _filter("placeholder-name", "John Doe, Alice, Foo Bar, Your Name", "NAME", _placeholder_name),
    _filter(
        "system-user",
        "Account that exists on every system or names a role: root, admin, test",
        "USERNAME",
        _system_user,
    ),
    _filter(
        "placeholder-user",
        "myuser, your_username, test-user, user42",
        "USERNAME",
        _placeholder_user,
    ),
    _filter(
        "url-part",
        "Scheme, host or repository of a URL; its owner of like name: acme/acme; path in a home",
        "USERNAME",
        _url_part,
    ),
    _filter(
        "organisation",
        "Account of an organisation or project: google, rust-lang, acme-team",
        "USERNAME",
        _organisation,
    ),
    _filter(
        "code-user",
        "Identifier of code: user(), job->name, self.port, --option; a tag; a number",
        "USERNAME",
        _code_user,
    ),
    _filter("note", "First word of a note: TODO: check this", "USERNAME", _note),
    _filter(
        "placeholder-password",
        "password, changeme, secret, test and their variants",
        "PASSWORD",
        _placeholder_password,
    ),
    _filter(
        "password-hash",
        "Hash of a password: crypt, bcrypt, LDAP, Django and hexadecimal forms",
        "PASSWORD",
        _password_hash,
    ),
    _filter("placeholder-key", "YOUR_API_KEY, xxxx, EXAMPLE, abc123", "KEY", _placeholder_key),
    _filter(
        "encoded-placeholder",
        "Base64 of user:password with a placeholder for the password",
        "KEY",
        _encoded_placeholder,
    ),
    _filter(
        "low-variety",
        "Few different characters, or a sequence: 00000000, 12345678, aaaabbbb",
        _SECRET,
        _low_variety,
    ),
    _filter("plain-key", "Nothing but words, or a short number: 14155550123", "KEY", _plain_key),
    _filter(
        "embedded-data",
        "Base64 of an image, a font or an archive, or of a data: URI",
        _SECRET,
        _embedded_data,
    ),
    _filter("uuid", "UUID, an identifier and no secret", "KEY", _identifier_uuid),
    _filter(
        "checksum",
        "Hexadecimal digest beside a word such as sha256, commit or integrity",
        "KEY",
        _checksum,
    ),
    _filter("public-key", "Body of a public key or certificate", "KEY", _public_key),
    _filter(
        "template",
        "Template or variable that is filled in later: ${PASS}, {{ token }}, %s, <key>",
        "KEY PASSWORD USERNAME",
        _template,
    ),
    _filter(
        "masked",
        "All but a few characters left out: q...7, ab***",
        "KEY PASSWORD USERNAME",
        _masked,
    ),
    _filter(
        "expression",
        "Expression of code and no literal: self.password, getToken()",
        _SECRET,
        _expression,
    ),
    _filter(
        "punctuation",
        "No letter and no digit",
        "NAME USERNAME EMAIL IP_ADDRESS KEY PASSWORD",
        _punctuation,
    ),
    _filter(
        "fragment",
        "One character; of a password one or two",
        "NAME USERNAME EMAIL KEY PASSWORD",
        _fragment,
    ),
    _filter(
        "copyright-line",
        "Name, handle or address on a copyright line",
        _PERSONAL,
        _copyright_line,
        kind="licence",
    ),
)
"""All filters, in the order they are tried; the first that holds sets the kind."""

_BY_LABEL = {
    label: tuple(rule for rule in FILTERS if label in rule.labels)
    for label in dict.fromkeys(label for rule in FILTERS for label in rule.labels)
}


def classify(
    text: str, spans: Iterable[Span], disabled: frozenset[str] = frozenset()
) -> list[Span]:
    """Set the kind of each span: that of the first filter that holds, else `real`.

    Args:
        text: The document the spans lie in.
        spans: Spans of any source.
        disabled: Names of filters that are not applied.

    Returns:
        The same spans in the same order; nothing but `kind` differs.
    """
    return [replace(span, kind=_kind(text, span, disabled)) for span in spans]


def _kind(text: str, span: Span, disabled: frozenset[str]) -> str:
    for rule in _BY_LABEL.get(span.label, ()):
        if rule.name not in disabled and rule.holds(text, span):
            return rule.kind
    return "real"
