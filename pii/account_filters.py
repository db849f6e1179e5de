"""Filters of names and user names, for `pii.filters`."""

import re

from pii.placeholders import FILLER, KEY_CORE, spelled_from
from pii.spans import Span

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


def placeholder_name(text: str, span: Span) -> bool:
    """Whether nobody bears the name, or too many do to tell whose it is."""
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
_USER_CORE = frozenset(
    """user users username usr login account owner member admin administrator name handle customer
    guest person nickname userid uid nick somebody someone tester editor viewer staff manager sid
    sender template""".split()
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


def url_part(text: str, span: Span) -> bool:
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


_ORGANISATIONS = frozenset(
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
    zeromq-js zopefoundation zsh-users""".split()
)
"""Accounts of code hosts that belong to no person."""
_OF_ORGANISATION = re.compile(
    r"[\w-]{2,36}(?:js|[-_](?:org|team|labs?|hq|io|project|group|foundation|community|software|"
    r"lang|apis?|sdk|tools|server|inc|ltd|plugins?|modules?|archive|contrib|core|framework))|"
    r"(?:team|project|the)-[\w-]{2,36}|open[a-z]{5,30}|[\w-]{2,36}(?:foundation|project|software|"
    r"framework|community|collective|labs|cloud|robotics|systems|university|apis|hub|corp)"
)


def organisation(text: str, span: Span) -> bool:
    """The account of an organisation or project, by its name."""
    value = text[span.start : span.end].lower()
    return value in _ORGANISATIONS or _OF_ORGANISATION.fullmatch(value) is not None


_CODE_BEFORE = re.compile(r"(?:[\w)\]]\.|->|::|</|\$|</?[\w-]{1,20}:|(?:\A|[\s\"'`\[])--?)\Z")
_CODE_AFTER = re.compile(r"\(|->|::|\[[\w\"']|\.[A-Za-z_]\w{0,60}\(|\s?=\s?[A-Za-z_][\w.]{0,60}\(")
_DECORATED = re.compile(r"\.[A-Za-z_]\w")
_TAG_AFTER = re.compile(r"[\s:]\w")


def code_user(text: str, span: Span) -> bool:
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


def note(text: str, span: Span) -> bool:
    """The first word of a note: TODO: check ...; TODO(jane) and TODO: @jane name somebody."""
    before, after = text[max(0, span.start - 12) : span.start], text[span.end : span.end + 3]
    return bool(_NOTE_BEFORE.search(before) and _PROSE_AFTER.match(after))


def system_user(text: str, span: Span) -> bool:
    """Whether the account exists on every system, or names a role."""
    return text[span.start : span.end].lower() in _SYSTEM_USERS


def placeholder_user(text: str, span: Span) -> bool:
    """Whether the words say that a user name is to stand there."""
    value = text[span.start : span.end]
    core = _USER_CORE | KEY_CORE
    return bool(_PLACEHOLDER_USER.fullmatch(value)) or spelled_from(value, core, FILLER)
