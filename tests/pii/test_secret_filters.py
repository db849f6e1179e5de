import pytest


@pytest.mark.parametrize("armour", ["CERTIFICATE", "PUBLIC KEY", "PGP SIGNATURE"])
def test_every_line_of_a_public_armour_is_public_and_nothing_after_it(kind, armour):
    body = "".join("MIIBkTCB+wIJAKHBfpE7Qx9rT2vZ5nLcYdWuGhJb8sVaPeXo\n" for _ in range(30))
    key = "jMRvtPNxrn3crTAGukpZ"

    assert kind("KEY", key, f"-----BEGIN {armour}-----\n{body}", "\n") == "example"
    assert kind("KEY", key, f"-----BEGIN {armour}-----\n{body}-----END {armour}-----\n") == "real"
    assert kind("KEY", key, f"-----BEGIN RSA PRIVATE KEY-----\n{body}", "\n") == "real"


def test_the_scheme_of_a_url_and_what_is_declared_are_no_secrets(kind):
    assert kind("PASSWORD", "srv", 'url = "mongodb+', '://x.corp.io"') == "example"
    assert kind("PASSWORD", "GraniteMoe", "class ", "(Base):") == "example"
    assert kind("KEY", "AutoTokenizer", "import Model, ", "\n") == "example"
    assert kind("KEY", "gv6URkSsqxTz", 'key = "', '"\n') == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("PASSWORD", "s3cr3tW0rd"), ("PASSWORD", "tops3cret"), ("PASSWORD", "secret123"),
        ("PASSWORD", "hunter42"), ("PASSWORD", "television"), ("PASSWORD", "passage"),
        ("KEY", "jMRvtPNxrn3crTAGukpZ"), ("KEY", "9e107d9d372bb6826bd81d3542a419d6"),
        ("KEY", "p" "k_" "7f3b9c1d5e8a2046"),
        ("KEY", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiYiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"),
    ],
)  # fmt: skip
def test_what_could_open_something_stays_real(kind, label, value):
    assert kind(label, value) == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        *(("PASSWORD", password) for password in (
            "password", "passwd", "secret", "changeme", "test", "foo", "123456", "pass", "********",
            "<password>", "${PASS}", "%s", "testpass", "mysecret", "password100", "$(cat pass)",
            "{{ password }}", "{SSHA}" + "q1W2" * 8, "$6$salt$" + "q1W2" * 20, "os.environ['PW']",
            "process.env.PASSWORD", "getenv(name)", "self.password", "options.key", "5f4dcc3b5aa7"
            "65d61d8327deb882cf99", "correct-password",
        )),
        *(("KEY", key) for key in (
            "xxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7" "EXAMPLE", "abc123", "<your token>", "${TOKEN}",
            "0123456789abcdef", "00000000000000000000", "SECRET_API_KEY", "getToken()",
        )),
    ],
)  # fmt: skip
def test_placeholders_and_documentation_values_are_examples(kind, label, value):
    assert kind(label, value) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("PASSWORD", "AuthToken", "sms://sid:", "@host\n"),
        ("PASSWORD", "your", "password: <", " password here>\n"),
        ("PASSWORD", "=<new", "set x password", " password>\n"),
        ("PASSWORD", "&#39;</", "x['password", "b>\n"),
        ("PASSWORD", "\\s0", "PASSWORD", '"\n'),
        ("PASSWORD", ".unpack", "password", "(q)\n"),
        ("PASSWORD", "scheme", "password ", "=x rounds=2\n"),
        ("PASSWORD", "0x7f3442406170", "<Password at ", ">\n"),
        ("KEY", "14155550123", "token='", "'\n"),
        ("KEY", "p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", '"v=DKIM1; ', '"\n'),
        ("KEY", "MIIDXTCCAkWgAwIBAgIJAKHBfpE7Qx9r", "cert: ", "\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "Encoding: base64\n\niVBORw0KGgoAAAANSUhEUg\nqPw3Zt", "\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "'" + "qPw3ZtLm" * 3000, "'\n"),
    ],
)
def test_what_stands_around_a_value_can_make_it_an_example(kind, label, value, before, after):
    assert kind(label, value, before, after) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("PASSWORD", "zanzibar", "password=", ", x=1\n"),
        ("PASSWORD", "zanzibar", "password ", " == x\n"),
        ("PASSWORD", "q7x!Lm", '<login password="', '" x>\n'),
        ("PASSWORD", "&#39;q7x", "p=", "\n"),
        ("KEY", "yxvkqwzrplmtgnbs", "token='", "'\n"),
        ("KEY", "kRq7Zx2TnV5bWc8Ld1Qf", "qPw3Zt\n\n", "\n"),
        ("KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "key: ", "\n"),
    ],
)
def test_what_stands_around_a_value_can_leave_it_real(kind, label, value, before, after):
    assert kind(label, value, before, after) == "real"
