import pytest


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("NAME", "Ottilie Brandt"), ("NAME", "John Brandt"), ("USERNAME", "obrandt"),
        ("USERNAME", "admirable"), ("USERNAME", "rooted7"),
    ],
)  # fmt: skip
def test_what_could_identify_somebody_stays_real(kind, label, value):
    assert kind(label, value) == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        *(("NAME", name) for name in ("Jane Doe", "alice", "Foo Bar", "Test User 2", "Your Name")),
        *(("USERNAME", user) for user in (
            "admin", "test", "guest", "postgres", "www-data", "username", "your-username",
            "testUser", "dependabot[bot]",
        )),
    ],
)  # fmt: skip
def test_placeholders_and_documentation_values_are_examples(kind, label, value):
    assert kind(label, value) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("USERNAME", "TemplateID", "sms://", ":x@host\n"),
        ("USERNAME", "acme", "https://github.com/", "/Acme-widgets\n"),
        ("USERNAME", "widgets", "git@github.com:obrandt/", ".git\n"),
        ("USERNAME", "acmeorg", "https://github.com/", "/acme.js\n"),
        ("USERNAME", "gizmo", "https://github.com/", "/gizmo-server/issues\n"),
        ("USERNAME", "gizmo", '"repository": "', '/gizmo-server"\n'),
        ("USERNAME", "gizmojs", "https://github.com/", "/widgets\n"),
        ("USERNAME", "gizmo-labs", "https://github.com/", "/widgets\n"),
        ("USERNAME", "linuxbrew", "/home/", "/.linuxbrew\n"),
        ("USERNAME", "fleetmsg", "'", "://host/'\n"),
        ("USERNAME", "builds", "https://", ".corp.io/x\n"),
        ("USERNAME", "job", "x = ", "->name;\n"),
        ("USERNAME", "props", "x = ", ".get('name')\n"),
        ("USERNAME", "rows", "", " = Link('user')\n"),
        ("USERNAME", "MKDIR", "MK = @", "@\n"),
        ("USERNAME", "defer", "@", ".inline\n"),
        ("USERNAME", "widgets", "http://corp.io/~obrandt/", "/x\n"),
        ("USERNAME", "graceful-timeout", "run --", " 1\n"),
        ("USERNAME", "block", "<tal:", " x=1>\n"),
        ("USERNAME", "connector-curve", "<path ink:", '="0"/>\n'),
        ("USERNAME", "widgets", "/home/obrandt/", "/a.sh\n"),
        ("USERNAME", "widgets", "/home/<USERNAME>/", "/a.sh\n"),
        ("USERNAME", "port", "self.", " = 80\n"),
        ("USERNAME", "rows", "x = ", "[0]\n"),
        ("USERNAME", "home", "cd $", "\n"),
        ("USERNAME", "block", "<", " x=1>\n"),
        ("USERNAME", "4128", "String(", ")\n"),
        ("USERNAME", "insert", "# FIXME: ", " proper support\n"),
        ("USERNAME", "Unfortunately", "# FIXME: ", ", there are\n"),
    ],
)
def test_what_stands_around_a_value_can_make_it_an_example(kind, label, value, before, after):
    assert kind(label, value, before, after) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("USERNAME", "obrandt", "https://github.com/", "/widgets\n"),
        ("USERNAME", "obrandt", "https://github.com/", "/obrandt.github.io\n"),
        ("USERNAME", "obrandt", "https://github.com/", "/brandnew\n"),
        ("USERNAME", "obrandt", "https://github.com/sponsors/", "\n"),
        ("USERNAME", "obrandt", '"repository": "', '/widgets"\n'),
        ("USERNAME", "teamplayer", "@", " thanks\n"),
        ("USERNAME", "obrandt", "https://api.github.com/repos/", "/widgets\n"),
        ("USERNAME", "obrandt", "https://", ".github.io/widgets\n"),
        ("USERNAME", "o.brandt", "ssh://", "@corp.io\n"),
        ("USERNAME", "brandt", "ftp://", ".o:q7x@corp.io\n"),
        ("USERNAME", "obrandt", '">', "</a>\n"),
        ("USERNAME", "obrandt", "<", "> hello\n"),
        ("USERNAME", "obrandt", "/home/", "/a.sh\n"),
        ("USERNAME", "obrandt", "mysql -u ", " -p\n"),
        ("USERNAME", "obrandt", "# TODO(", "): check\n"),
        ("USERNAME", "obrandt", "# TODO @", " please check\n"),
        ("USERNAME", "obrandt", "thanks to @", ". Next\n"),
        ("USERNAME", "obrandt", "(thanks @", ")\n"),
        ("USERNAME", "obrandt", "", " = s3cr3t\n"),
    ],
)
def test_what_stands_around_a_value_can_leave_it_real(kind, label, value, before, after):
    assert kind(label, value, before, after) == "real"
