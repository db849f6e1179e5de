import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.forms import apply_form, read_form
from pii.detect import load_detector
from pii.redact import tag_operator
from pii.spans import Span

MARKERS = {
    "issue": re.compile(r"<issue_(?:start|comment|closed)>"),
    "commit": re.compile(r"<commit_(?:before|msg|after)>"),
    "notebook": re.compile(r"<(?:jupyter_(?:start|text|code|output)|empty_output)>"),
}


def found(text, value, label="KEY"):
    return [
        Span(start=match.start(), end=match.end(), label=label)
        for match in re.finditer(re.escape(value), text)
    ]


def redacted(text, value="\0"):
    form = read_form(text)
    spans = form.to_original([found(form.texts[0], value)])
    return apply_form(text, form, spans, tag_operator).text


def thread(*comments, title="Title: it fails"):
    return f"<issue_start>{title}\n" + "<issue_comment>".join(comments) + "<issue_closed>"


def title(text):
    return "Title: " + text.replace("\n", " ")


# --- Issues --------------------------------------------------------------------------------------


def test_authors_are_numbered_as_they_appear_and_keep_their_numbers():
    text = thread("zoe: it fails", "adam: why?", "zoe: no idea", "Adam: oh")

    assert redacted(text) == thread(
        "username_0: it fails", "username_1: why?", "username_0: no idea", "username_1: oh"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<issue_start>fix: it\nzoe: a", "<issue_start>fix: it\nusername_0: a"),
        ("<issue_start>zoe: a\nb", "<issue_start>username_0: a\nb"),
        ("<issue_start>fix: it\nb", "<issue_start>fix: it\nb"),
        (
            "<issue_start><issue_comment>Title: parser: it\nzoe: a",
            "<issue_start><issue_comment>Title: parser: it\nusername_0: a",
        ),
        (
            "<reponame>zoe7/x<issue_start>Title: it\n\nzoe7: a",
            "<reponame>zoe7/x<issue_start>Title: it\n\nusername_0: a",
        ),
        ("<issue_start>T\n<issue_closed>zoe: a", "<issue_start>T\n<issue_closed>username_0: a"),
        ("<issue_start>username_0: a\nzoe: b", "<issue_start>username_0: a\nzoe: b"),
        (
            "<issue_start>T\n<issue_closed>Status: done",
            "<issue_start>T\n<issue_closed>Status: done",
        ),
        ("<issue_start>T\nhttps://x.org", "<issue_start>T\nhttps://x.org"),
    ],
)
def test_the_author_stands_before_a_comment_and_after_the_title(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("thanks @Zoe-K!", "thanks @username_0!"),
        ("@zoe-k, @max: look", "@username_0, @username_1: look"),
        ("zoe-k said so", "username_0 said so"),
        ("```\ncd /home/zoe-k/src\n```", "```\ncd /home/username_0/src\n```"),
        ("see github.com/max/lib", "see github.com/username_1/lib"),
        ("谢谢zoe-k的", "谢谢username_0的"),
        ("_zoe-k_ and zoe-k-patch-1", "_username_0_ and username_0-patch-1"),
        # Others, and what is no account at all.
        ("the max of it, max(1, 2)", "the max of it, max(1, 2)"),
        ("zoe-k2 azoe-k zoe-kä zoe-k-lib", "zoe-k2 azoe-k zoe-kä zoe-k-lib"),
        ("zoe-k@mail.org a@zoe-k.org", "zoe-k@mail.org a@zoe-k.org"),
    ],
)
def test_mentions_get_the_pseudonym_of_their_author(comment, expected):
    text = thread("zoe-k: a", "max: b", "max: " + comment, title=title(comment))

    assert redacted(text) == thread(
        *("username_0: a", "username_1: b", "username_1: " + expected), title=title(expected)
    )


@pytest.mark.parametrize(
    "login",
    ["test", "user", "bot", "python3", "read-only", "GitHub", "sha256", "update", "k8s", "7"],
)
def test_an_author_called_like_a_word_leaves_the_word_alone(login):
    text = thread(f"{login}: the {login} of it", f"zoe: ask @{login}")

    assert redacted(text) == thread(f"username_0: the {login} of it", "username_1: ask @username_0")


@pytest.mark.parametrize("login", ["zoe7", "zo-kra", "janeR", "plockhess", "jane_corp", "test-zoe"])
def test_an_author_called_like_no_word_is_found_without_an_at(login):
    text = thread(f"{login}: a", f"zoe: {login.upper()} did it")

    assert redacted(text) == thread("username_0: a", "username_1: username_0 did it")


def test_pseudonyms_that_are_there_stay_and_are_not_given_twice():
    text = thread("username_1: a", "zoe: @username_1", "username_0: b", "adam: c")

    assert redacted(text, "@username_1") == thread(
        "username_1: a", "username_2: @username_1", "username_0: b", "username_3: c"
    )


def test_a_bot_is_an_author_and_mentioned_without_brackets():
    text = thread("tidy-bot[bot]: hello", "zoe: @tidy-bot rebase")

    assert redacted(text) == thread("username_0: hello", "username_1: @username_0 rebase")


def test_of_what_is_found_around_an_author_the_rest_is_replaced_too():
    text = thread("zoe-k: a", "max: key is abc-zoe-k/def and zoe-k")
    form = read_form(text)

    spans = form.to_original([found(form.texts[0], "abc-zoe-k/def and zoe-k")])

    assert [(text[span.start : span.end], span.label) for span in spans] == [
        *(("zoe-k", "USERNAME"), ("max", "USERNAME")),
        *(("abc-zoe-k/def and", "KEY"), ("zoe-k", "USERNAME")),
    ]


def test_the_detector_sees_neither_markers_nor_authors():
    text = thread("zoe: it fails", "username_3: why?")

    assert read_form(text).texts == ("\nTitle: it fails\n it fails\n why?\n\n",)


def test_what_was_found_once_can_be_replaced_from_its_spans_alone():
    text = thread("zoe-k: abc", "max: zoe-k")
    form = read_form(text)
    spans = form.to_original([found(form.texts[0], "abc")])

    assert read_form(text) == form
    assert apply_form(text, read_form(text), spans[1:], tag_operator).text == thread(
        "zoe-k: <KEY>", "username_1: username_0"
    )


# --- Commits and flat notebooks ------------------------------------------------------------------


def test_the_parts_of_a_commit_are_read_without_their_markers():
    text = "<commit_before>a = 1\n<commit_msg>Fix\n<commit_after>a = 2\n"
    form = read_form(text)

    assert (form.kind, form.texts) == ("commit", ("\na = 1\n\nFix\n\na = 2\n\n",))


def test_a_file_that_only_speaks_of_markers_is_plain():
    for text in ("x = '<issue_start>'", "<commit_before>", "<b><jupyter_text>", ""):
        form = read_form(text)
        assert (form.kind, form.texts, form.to_original([[]])) == ("plain", (text,), [])


@pytest.mark.parametrize(
    "trailer",
    [
        "Signed-off-by: {}",
        "Co-authored-by: {}",
        "Co-Authored-By: {}",
        "  Reviewed-by: {}",
        "Cc: {}",
    ],
)
@pytest.mark.parametrize("name", ["Zoe Plock", "zoe plock", "Zoe", "Per Ólafs-Hess Jr."])
def test_names_in_the_trailers_of_a_commit_are_known(trailer, name):
    line = trailer.format(f"{name} <zoe@plock-hess.net>")
    text = f"<commit_before>a\n<commit_msg>Fix it\n\n{line}\n<commit_after>b\n"
    form = read_form(text)
    detector = load_detector("none")

    spans = form.to_original([detector.detect(read) for read in form.texts])

    assert apply_form(text, form, spans, tag_operator).text == text.replace(
        line, trailer.format("<NAME> <<EMAIL>>")
    )


def test_no_trailer_is_looked_for_outside_of_the_message_or_of_a_bot():
    line = "Signed-off-by: Zoe <zoe@x.net>\n"
    bot = "Signed-off-by: tidy[bot] <tidy@x.net>\n"

    assert read_form(f"<commit_before>{line}<commit_msg>{bot}<commit_after>{line}").known == ()


def test_a_flat_notebook_is_read_without_its_markers():
    text = "<jupyter_start><jupyter_text>a<jupyter_code>b<jupyter_output><empty_output>"
    form = read_form(text)

    assert form.kind == "notebook"
    assert form.texts == ("\n\na\nb\n\n\n",)
    assert redacted(text, "a\nb") == text.replace(">a<", "><KEY><").replace(">b<", "><KEY><")


# --- All of them ---------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        *("<issue_start>", "<issue_comment>", "<issue_closed>", "<empty_output>"),
        *("<commit_before>", "<commit_msg>", "<commit_after>"),
        *("<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>"),
        *("zoe-k", "@", ":", ": ", "\n", "Title: ", "username_1", "issue_comment", "max", "[bot]"),
        *("Signed-off-by: ", "<a@b.net>", "\ufeff", "\ud800", "<reponame>", "İ", "é"),
    ]
)
marked = st.lists(st.one_of(pieces, st.text(max_size=3))).map("".join)
starts = st.sampled_from(["", "<issue_start>", "<jupyter_start>", "<commit_before>"])


@given(start=starts, rest=marked, data=st.data())
def test_whatever_is_found_markers_stay_and_spans_are_apart(start, rest, data):
    text = start + rest
    form = read_form(text)
    read = form.texts[0]
    bounds = data.draw(st.sets(st.integers(0, len(read)), max_size=8).map(sorted))
    spans = form.to_original(
        [
            [
                Span(start=from_, end=to, label="KEY")
                for from_, to in zip(bounds[::2], bounds[1::2], strict=False)
            ]
        ]
    )

    redaction = apply_form(text, form, spans, tag_operator)

    if form.kind != "plain":
        assert MARKERS[form.kind].findall(redaction.text) == MARKERS[form.kind].findall(text)
    ends = [0, *(span.end for span in spans)]
    begins = [*(span.start for span in spans), len(text)]
    assert all(end <= begin for end, begin in zip(ends, begins, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        *("<issue_start>" * 100_000, "<issue_start>" + " " * 1_000_000),
        *("<issue_start>" + "a:" * 500_000, "<issue_start>zo-k: " + "_-" * 500_000),
        "<issue_start>" + "zo-k: -patch-1\n<issue_comment>" * 50_000,
        "<issue_start>zo-k: " + "-patch-" * 200_000,
        "<commit_before><commit_after><commit_msg>" + ("Aa-by: " + "a " * 1000 + "\n") * 500,
        *("<reponame>" * 100_000, " " * 1_000_000),
    ],
    ids=lambda text: text[:40].strip(),
)
def test_a_hostile_megabyte_is_read_at_once(text):
    form = read_form(text)

    assert form.to_original([[]]) == [span for span, _ in form.known]


@given(start=starts, rest=marked)
def test_redacting_a_second_time_changes_no_author(start, rest):
    once = redacted(start + rest)

    assert redacted(once) == once
