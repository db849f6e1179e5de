"""Account handles by the place they stand in; all handles are made up."""

import pytest

from pii.patterns import RULES, find_patterns


def users(text):
    return [text[span.start : span.end] for span in find_patterns(text) if span.label == "USERNAME"]


def found_by(name, text):
    (rule,) = (rule for rule in RULES if rule.name == name)
    return [text[start:end] for start, end, _ in rule.find(text)]


@pytest.mark.parametrize(
    "text",
    [
        "see https://github.com/obrandt7",
        '"url": "https://github.com/obrandt7"',
        "(http://github.com/obrandt7).",
        "<https://www.github.com/obrandt7>",
        "[Ottilie](https://github.com/obrandt7)",
        "https://github.com/sponsors/obrandt7\n",
        "![](https://github.com/obrandt7.png?size=80)",
        "https://code.launchpad.net/~obrandt7/ubuntu/+source/ppp",
        "https://www.patreon.com/obrandt7 ",
        "https://gitlab.com/obrandt7/",
        "https://codeberg.org/obrandt7\n",
    ],
)
def test_the_owner_of_a_profile_is_found(text):
    assert users(text) == ["obrandt7"]


def test_a_link_named_after_its_owner_is_found_twice():
    assert users("by [obrandt7](https://github.com/obrandt7)") == ["obrandt7", "obrandt7"]
    assert users("by [Otto](https://github.com/obrandt7)") == ["obrandt7"]


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/obrandt7/widgets",
        "git@github.com:obrandt7/widgets.git",
        "https://github.com/features",
        "https://github.com/",
        "https://api.mygithub.com/obrandt7",
        "https://docs.github.com/obrandt7",
        "github.com/obrandt7@v1",
        'import "github.com/obrandt7/x"',
    ],
)
def test_owners_of_repositories_and_pages_of_a_host_are_left_to_the_encoder(text):
    assert users(text) == []


def test_the_owner_of_a_package_or_an_action_is_found():
    assert users('"repository": "obrandt7/widgets"') == ["obrandt7"]
    assert users('"repository":"github:obrandt7/widgets"') == ["obrandt7"]
    assert users("    uses: obrandt7/setup-widgets@v2\n") == ["obrandt7"]
    assert users('"repository": "widgets"') == []
    assert users("    uses: ./local/action\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "cd /home/obrandt/src",
        "HOME=/Users/obrandt\n",
        '"/home/obrandt"',
        "C:\\Users\\obrandt\\x",
        r'"C:\\Users\\obrandt\\AppData"',
        "file:///home/obrandt/x",
        "D:/Users/obrandt/x",
        "x=`/home/obrandt/bin/run`",
        "path /home/obrandt.\n",
        "http://www.corp.io/~obrandt/x.html",
    ],
)
def test_the_user_of_a_home_is_found(text):
    assert users(text) == ["obrandt"]


@pytest.mark.parametrize(
    "text",
    [
        "/boot/home/config/bin",
        "http://x.org/home/projects/x",
        "'/home/about/'",
        "/home/$USER/x",
        "/home/<user>/x",
        "src/~obrandt/x",
        "../home/obrandt/x",
    ],
)
def test_other_paths_have_no_user(text):
    assert users(text) == []


def test_the_author_of_a_note_is_found():
    assert users("# TODO(obrandt): mend") == ["obrandt"]
    assert users("// FIXME(@obrandt)") == ["obrandt"]
    assert users("# TODO(#123): mend") == users("// TODO(PROJ-74): mend") == []
    assert users("TODO (more)") == users("TODO(b/123456)") == []


@pytest.mark.parametrize(
    "text",
    [
        "/* $Id: lib.c,v 1.2 2005/09/13 22:20:13 obrandt Exp $ */",
        "/*\t$OpenBSD: lib.h,v 1.15 2021/09/28 11:14:50 obrandt Exp $ */",
        "# $Id: io.py 10267 2025-12-01 22:43:32Z obrandt $",
        " * $From: sha2.c,v 1.1 2001/11/08 00:01:51 obrandt Exp $",
    ],
)
def test_who_checked_a_file_in_is_found(text):
    assert users(text) == ["obrandt"]


def test_the_locker_of_a_file_is_found_too_and_an_open_keyword_is_none():
    assert users("$Id: a.c,v 1.1 2001/11/08 00:01:51 obrandt Exp jroe $") == ["obrandt", "jroe"]
    assert users("$Id: a.c,v 1.1 \n 2001/11/08 00:01:51 obrandt Exp $") == users("$Id: $") == []


@pytest.mark.parametrize(
    "text",
    [
        "* mend the parser by @o-brandt in #12",
        "Thanks @o-brandt!",
        "thanks to @o-brandt for it",
        "- mend the parser (@o-brandt)",
        "* #12: mend it [@o-brandt]",
        "/cc @o-brandt",
        "see ([@o-brandt](https://github.com/x/y))",
        "- \\#19 fixed\n - @o-brandt\n",
    ],
)
def test_a_credited_handle_is_found(text):
    assert users(text) == ["o-brandt"]


def test_of_several_credited_handles_each_is_found():
    assert users("by @obrandt, @jroe7 and @kveld") == ["obrandt", "jroe7", "kveld"]


@pytest.mark.parametrize(
    "text",
    [
        "@param name",
        "f(@Test)",
        "x = (@PathVariable)",
        "by @scope/package",
        "@media print {",
        "follow [@widgets](https://twitter.com/widgets)",
        "use @next and @latest instead",
        "by @decorator.call",
        "see @ref{x}",
        "- mend it (@obrandt once more)",
        "foo@bar",
    ],
)
def test_tags_decorators_and_scopes_are_no_handles(text):
    assert found_by("mention", text) == []


def test_a_handle_that_its_address_repeats_is_found():
    assert users("# obrandt <obrandt@corp.io>") == ["obrandt"]
    assert users("  * OBrandt <7+obrandt@users.noreply.github.com>") == ["OBrandt"]
    assert users(" -- Ottilie Brandt (obrandt) <obrandt@corp.io>") == ["obrandt"]
    assert users("# ottilie <info@corp.io>") == users("# Ottilie <ottilie@corp.io>") == []
    assert users("the mailing list <list@corp.io>") == []


def test_a_lone_handle_on_a_line_of_a_change_log_is_found():
    assert users("\n\n  [ obrandt ]\n  * Mend it\n") == ["obrandt"]
    assert users("\n  [ Ottilie Brandt ]\n") == users("if [ obrandt ]\n") == []


@pytest.mark.parametrize(
    "text",
    [
        'username = "obrandt"',
        "user_name: 'obrandt'",
        '"login": "obrandt"',
        "DB_USERNAME = 'obrandt'",
        'Digest username="obrandt"',
        'username => "obrandt"',
        '\\"screen_name\\": \\"obrandt\\"',
    ],
)
def test_a_handle_given_to_a_user_name_is_found(text):
    assert users(text) == ["obrandt"]


@pytest.mark.parametrize(
    "text",
    [
        'USERNAME = "APP_USERNAME"',
        '"login": "Username"',
        "username = obrandt",
        "username: 'two words'",
        '"username": "string"',
        "login('obrandt')",
        'usernames = ["obrandt"]',
    ],
)
def test_labels_and_references_are_no_user_name(text):
    assert users(text) == []
