"""Passwords, keys and user names by the name they are assigned to; all values are made up."""

import pytest

from pii.assignments import lower_of
from pii.filters import classify
from pii.patterns import find_patterns

WORD = "zanzibar"
MIXED = "Gr4nitHarbour!"


def found(text, label="PASSWORD"):
    return [text[span.start : span.end] for span in find_patterns(text) if span.label == label]


@pytest.mark.parametrize("value", [WORD, MIXED, "P4ss#123", "867-5309", "dUmmyP^#+"])
@pytest.mark.parametrize(
    "form",
    [
        'password = "{}"',
        "'passwd' => '{}',",
        '{{"Passphrase": "{}"}}',
        "DB_PASSWORD: '{}'",
        'String pwd = "{}";',
        'var password string = "{}"',
        'const password: string = "{}"',
        'char passwd[] = "{}";',
        'params["password"] = "{}"',
        "connect(password='{}')",
        'setPassword("{}")',
        '.username("x7").password("{}")',
        "with_password('{}')",
        "CREATE USER x IDENTIFIED BY '{}'",
        "IDENTIFIED WITH sha2 BY '{}'",
        "ALTER ROLE x PASSWORD '{}'",
        "<password>{}</password>",
        "<dbPassword>{}</dbPassword>",
        '<login password="{}"/>',
        '<property name="db.password" value="{}"/>',
        '<entry key="password">{}</entry>',
        'props.put("password", "{}");',
        'setProperty("db.password", "{}")',
        "assertEqual(x.password, '{}')",
        'strcmp(conn->passwd, "{}")',
        "tool --password '{}'",
        'tool --password="{}"',
        "Server=x;User Id=y;Password={};",
        "host=x user=y password={} sslmode=z",
        "export PGPASSWORD={}\n",
        "docker run -e MYSQL_PASSWORD={} x\n",
        "      MYSQL_ROOT_PASSWORD: {}\n",
        "user: x\npass: '{}'\n",
        '"smtp_user": "x", "smtp_pass": "{}"',
        'if password == "{}":',
        'storepass="{}"; keystore user',
        '\\"password\\": \\"{}\\"',
        "password = b'{}'",
        'db_password2 = "{}"',
    ],
)
def test_a_literal_given_to_a_password_is_found(form, value):
    assert found(form.format(value)) == [value]


@pytest.mark.parametrize(
    "form",
    [
        "user = x7\npassword = {}\n",
        "[db]\npassword={}\n",
        "a: b\n  password: {}\n",
        "tool --password {} -x",
    ],
)
def test_without_quotes_a_value_of_letters_and_figures_is_found_among_settings(form):
    assert found(form.format(MIXED)) == [MIXED]
    assert found(form.format("harbour")) == []


@pytest.mark.parametrize(
    "text",
    [
        'password = "Enter your password"',
        'password: "Password:"',
        '"password": "string"',
        'type="password" name="password"',
        "password = get_password()",
        "password = os.environ['X7']",
        'PASSWORD = "APP_PASSWORD"',
        '"reset_password": "zurueck"',
        "getpass.getpass('Secret7')",
        "'password': 'PasswordPolicyRule'",
        '"password": "challengePassword"',
        '"password": "httpd_password"',
        'PASSWORD="MS-CHAP-Password"',
        '"password": "\u5bc6\u7801\u9519\u8bef"',
        "'password' => '@user_password'",
        'password: "required|min:8"',
        'password = "^[a-z]+$"',
        'password: "/path/to/it"',
        "'password' => 'Confirmed'",
        "password = password2",
        'user = x; trespass = "zanzibar"',
        "user = x7\npassword = arg1\nf(arg1)\n",
        'password: "5/m/user1"',
        "password: str = None",
        "password: Uint8Array",
        'bypass = "zanzibar"',
        '"getpass": "^0.1.1"',
        "TEST_PASS: 'zanzibar'",
        "'pass': 'every'",
        'expect_pass("foo/bar")',
        'hasPassword: "zanzibar"',
        'showPassword="zanzibar"',
        'compass = "x7y8z9"',
        "password, 'utf8'",
        '"email", "password", "port"',
        "password = arg1\nf(arg1)\n",
        'passwordHint = "abc1"',
        'password = ""',
        "{password: r.password, host: r.host}",
        "FOO_PASSWORD=$(cat x)",
        "PASSWORD = None",
        '".mpw" => "application/vnd.x-pass+zip"',
        "the --password option is needed",
    ],
)
def test_labels_messages_types_references_and_names_are_no_password(text):
    assert found(text) == []


def test_a_pass_phrase_of_several_words_is_found_and_a_sentence_is_not():
    phrase = " ".join(["correct", "zebra", "battery"])
    assert found(f'passphrase = "{phrase}"') == [phrase]
    assert found('"password": "Wrong password given"') == []


def test_pass_alone_needs_a_user_nearby():
    assert found('{ user: "x7", pass: "zanzibar" }') == [WORD]
    assert found('{ colour: "x7", pass: "zanzibar" }') == []


@pytest.mark.parametrize(
    "form",
    [
        "client.login('{}', '{}')",
        'auth=("{}", "{}")',
        'HTTPBasicAuth("{}", "{}")',
        'new Credentials("{}", "{}")',
        'url.UserPassword("{}", "{}")',
        "db.authenticate('{}', '{}')",
        "basic_auth('{}', '{}')",
        "curl -u {}:{} https://x",
        'curl --user "{}:{}" https://x',
        'setopt(curl, CURLOPT_USERPWD, "{}:{}")',
    ],
)
def test_user_and_password_of_one_call_or_option_are_found(form):
    text = form.format("obrandt", MIXED)
    assert found(text, "USERNAME") == ["obrandt"]
    assert found(text) == [MIXED]


@pytest.mark.parametrize(
    "text",
    [
        "login(user, password)",
        'login("/path/a", "/path/b")',
        "auth('a b', 'c d')",
        "ls -u a:b",
        "docker run -u 1000:1000 x",
    ],
)
def test_other_calls_and_options_hold_no_credentials(text):
    assert found(text) == found(text, "USERNAME") == []


@pytest.mark.parametrize(
    "form",
    [
        "sshpass -p {} ssh x",
        "sshpass -p '{}' ssh x",
        "mysql -u root -p{} db",
        "xfreerdp /u:x /p:{} /f",
        "openssl rsa -passin pass:{} -in x",
    ],
)
def test_the_password_of_a_short_option_is_found(form):
    assert found(form.format(MIXED)) == [MIXED]


@pytest.mark.parametrize(
    "text",
    ["sshpass -p $PW ssh", "mysql -u root -p\n", "mysql -u x -p db", "bypass: x7y", "/p: x7"],
)
def test_a_short_option_without_a_literal_has_no_password(text):
    assert found(text) == []


def test_a_quoted_secret_with_signs_is_a_key_and_an_identifier_with_signs_is_none():
    value = "t0pS3cr3t!x"
    assert found(f'token: "{value}"', "KEY") == [value]
    assert found('token: "v1.2b.3c.4d"', "KEY") == []
    assert found('token: "get_next_token2"', "KEY") == found("token: a1!b2!c3!d4", "KEY") == []


def test_a_text_in_lower_case_keeps_its_length():
    for text in ("PASSWORD = x", "\u0130stanbul PWD", "\u1e9e\ufb01\u01c5", "\u0130" * 5):
        assert len(lower_of(text)) == len(text)


ESCAPED = ['Zeb*ra\\"Crossing9', "it\\'s-Zebra44", "a\\\\b\\u0026Cde9fg", "x9\\$Kd\\/q"]


@pytest.mark.parametrize("value", ESCAPED)
@pytest.mark.parametrize("form", ['password = "{}"', '{{"x": 1, "password": "{}"}}', "pwd: '{}',"])
def test_an_escaped_character_belongs_to_the_literal(form, value):
    quote = form[form.index("{}") - 1]
    if quote in value.replace("\\" + quote, ""):
        return  # it would end the literal
    assert found(form.format(value)) == [value]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_other_quote_belongs_to_the_literal(quote):
    value = "Gr4nit" + {"'": '"', '"': "'"}[quote] + "Harbour"
    assert found(f"password = {quote}{value}{quote}") == [value]


@pytest.mark.parametrize(
    "text",
    [
        '"password": "Contrase\\u00f1a"',
        'password: "\\\\d{6,12}"',
        'password = "Password:\\n"',
        'sql = "password=\'"+pw2+"\'"',
        "x = 'password=\"'.$pw9.'\"'",
        "password: '<b>Pass9</b>'",
    ],
)
def test_escapes_of_words_patterns_and_joined_strings_make_no_password(text):
    assert found(text) == []


@pytest.mark.parametrize("value", ["gR4nit&Harbour9", "gR4nit;Harb,9", "gR4(nit|H9"])
@pytest.mark.parametrize(
    "form",
    [
        "DB_HOST=db1\nDB_PASSWORD={}\n",
        "export SMTP_PASS={}\nSMTP_USER=x",
        "a: b\n  MYSQL_PASSWORD: {}\n",
        "db.host=x\ndb.password={}\n",
        "[db]\r\nuser = x7\r\npassword = {}\r\n",
    ],
)
def test_an_unquoted_value_ends_with_its_line(form, value):
    assert found(form.format(value)) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("X_PASSWORD=gR4nit&user=x9\n", "gR4nit"),
        ("X_PASSWORD=gR4nit;export X_PASSWORD\n", "gR4nit"),
        ("host=x&password=gR4nit&user=x\n", "gR4nit"),
    ],
)
def test_in_a_query_or_command_an_unquoted_value_ends_before_the_next_one(text, value):
    assert found(text) == [value]


def test_a_quoted_value_of_several_words_is_found_in_an_environment_file_alone():
    phrase = "p4ss word with " + "Spaces9"
    assert found(f'DB_PASSWORD="{phrase}"\n') == [phrase]
    assert found(f'show(DB_PASSWORD="{phrase}")') == []
    assert found('DB_PASSWORD="Enter the password"\n') == []
    assert found('DB_PASSWORD="$(pass show 9x | head)"\n') == []


@pytest.mark.parametrize("name", ["AUTH_KEY", "NONCE_SALT", "LOGGED_IN_KEY"])
def test_the_salts_of_a_blog_are_keys_as_a_whole(name):
    value = "x;Kd93-|jfUe,>3jfQ(" + "w[2 V]k&8Zt{q#R~1m`Hb^0+yG=5dL/ N?o7u%C4s:a.e@P!"
    assert found(f"define('{name}',     '{value}');", "KEY") == [value]
    assert found(f"define('{name}', 'put your unique phrase here, with 2 words');", "KEY") == []


@pytest.mark.parametrize(
    "form",
    [
        "define('DB_USER', '{}');",
        "<server><username>{}</username></server>",
        "a: b\n  POSTGRES_USER: {}\n",
        "MYSQL_USER={}\n",
        "spring.datasource.username={}\nspring.datasource.password=x\n",
        'getConnection("jdbc:mysql://x/y", "{}", "' + MIXED + '")',
        'getConnection(url, "{}", "' + MIXED + '");',
    ],
)
def test_a_user_of_settings_elements_and_connections_is_found(form):
    assert found(form.format("wp_9931"), "USERNAME") == ["wp_9931"]
    assert found(form.format("wp_9931")) == ([MIXED] if MIXED in form else [])


@pytest.mark.parametrize(
    "text",
    [
        "self.conn.username=user_7\nself.conn.password=x\n",
        "a.b.username=wp_9931\n",
        "BY_USER=recent\n",
        "getConnection(url, props, 7)",
    ],
)
def test_variables_and_lone_properties_are_no_users(text):
    assert found(text, "USERNAME") == []


def test_the_password_of_a_definition_is_found():
    assert found("define('DB_PASSWORD', 'kd(93;x4');") == ["kd(93;x4"]


def test_a_quoted_literal_with_an_open_bracket_is_no_call():
    kinds = [
        [span.kind for span in classify(text, find_patterns(text))]
        for text in ("define('DB_PASSWORD', 'kd(93;x4');", "password = 'kd(93;x4)9'")
    ]
    assert kinds == [["real"], ["example"]]
