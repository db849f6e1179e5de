import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.forms import apply_form, read_form
from export.notebooks import DEEPEST
from pii.redact import tag_operator
from pii.spans import Span

VALUE = 'pä"s\\s\n' + "w0rd\U0001f600"
ANSI = "\x1b[0;31m"


def spans_of(text, value, label="PASSWORD"):
    return [
        Span(start=match.start(), end=match.end(), label=label)
        for match in re.finditer(re.escape(value), text)
    ]


def redacted(text, value):
    form = read_form(text)
    spans = form.to_original([spans_of(form.texts[0], value)])
    return apply_form(text, form, spans, tag_operator).text


def with_tags(value, secret):
    """The same document after redacting its decoded strings."""
    if isinstance(value, str):
        return value.replace(secret, "<PASSWORD>")
    if isinstance(value, list):
        return [with_tags(item, secret) for item in value]
    if isinstance(value, dict):
        return {with_tags(k, secret): with_tags(v, secret) for k, v in value.items()}
    return value


def version_4(**fields):
    return {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **fields}


def code_cell(source, outputs=(), **fields):
    return {
        "cell_type": "code",
        "execution_count": 1,
        "id": "abcd1234",
        "metadata": {},
        "outputs": list(outputs),
        "source": source,
        **fields,
    }


def stream(text):
    return {"name": "stdout", "output_type": "stream", "text": text}


def bundle(**data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


# Strings hold the value at times, and whatever else JSON can.
texts = st.lists(st.one_of(st.text(max_size=8), st.just(VALUE)), max_size=4).map("".join)
lines = st.one_of(texts, st.lists(texts, max_size=3))
scalars = st.one_of(texts, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
outputs = st.one_of(
    st.builds(stream, lines),
    st.builds(
        lambda plain, data: bundle(**{"text/plain": plain, "application/json": data}),
        lines,
        anything,
    ),
    st.builds(
        lambda trace: {"output_type": "error", "ename": "E", "evalue": VALUE, "traceback": trace},
        st.lists(texts, max_size=3),
    ),
)
cells = st.builds(code_cell, lines, st.lists(outputs, max_size=2), metadata=anything)
notebooks = st.builds(
    version_4, cells=st.lists(cells, min_size=1, max_size=3), metadata=anything, other=anything
)
dumps = st.builds(
    lambda document, ascii_only, indent: json.dumps(
        document, ensure_ascii=ascii_only, indent=indent
    ),
    notebooks,
    st.booleans(),
    st.sampled_from([None, 0, 1]),
)


@given(document=notebooks, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_redacting_the_json_is_redacting_its_strings(document, ascii_only, indent):
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)

    assert json.loads(redacted(text, VALUE)) == with_tags(document, VALUE)


@given(text=dumps, data=st.data())
def test_any_spans_leave_valid_json_and_all_else_as_it_is(text, data):
    form = read_form(text)
    read = form.texts[0]
    bounds = data.draw(st.sets(st.integers(0, len(read)), max_size=12).map(sorted))
    found = [
        Span(start=start, end=end, label="KEY")
        for start, end in zip(bounds[::2], bounds[1::2], strict=False)
    ]

    spans = form.to_original([found])
    redaction = apply_form(text, form, spans, tag_operator)

    json.loads(redaction.text)
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    kept = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    # A number stands where two keys of an object would be equal.
    expected = r"<KEY>(?:_\d+)?".join(map(re.escape, kept))
    assert re.fullmatch(expected, redaction.text) is not None


@given(text=dumps, data=st.data())
def test_a_span_holds_the_same_value_in_the_json(text, data):
    form = read_form(text)
    segments = form.segments[0]
    segment = data.draw(st.sampled_from(segments))
    start = data.draw(st.integers(segment.start, segment.end - 1))
    end = data.draw(st.integers(start + 1, segment.end))

    (span,) = form.to_original([[Span(start=start, end=end, label="KEY")]])

    assert json.loads(f'"{text[span.start : span.end]}"') == form.texts[0][start:end]
    assert segment.original_start <= span.start < span.end <= segment.original_end


@given(text=st.text(alphabet='{}[]",:\\u0dD8e \n\ufeff' + "cells", max_size=60))
def test_broken_json_is_plain(text):
    text = '{"cells": [' + text
    try:
        json.loads(text)
    except ValueError:
        form = read_form(text)
        assert (form.kind, form.texts) == ("plain", (text,))


@given(document=anything)
def test_json_that_is_no_notebook_is_plain(document):
    assert read_form(json.dumps({"cells": 1, "other": document})).kind == "plain"


GOLDEN_3 = """{
 "metadata": {"name": "Report of Jane", "authors": [{"name": "Jane Roe"}]},
 "nbformat": 3, "nbformat_minor": 0,
 "worksheets": [{"cells": [
  {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Title"]},
  {"cell_type": "code", "collapsed": false, "input": ["a = 1\\n", "b = \\"x\\""],
   "language": "python", "metadata": {}, "prompt_number": 1,
   "outputs": [{"output_type": "pyout", "prompt_number": 1, "text": ["1\\n", "2"],
    "html": "<b>1</b>"},
    {"output_type": "pyerr", "ename": "KeyError", "evalue": "'k'", "traceback": ["t1", "t2"]}]}
 ]}]}
"""
GOLDEN_4 = """{
 "cells": [
  {"attachments": {"jane.png": {"image/png": "iVBORw0KGgo%s"}}, "cell_type": "markdown",
   "id": "0a1b2c3d", "metadata": {"owner": "jane"}, "source": "see\\n![](attachment:jane.png)"},
  {"cell_type": "code", "execution_count": null, "id": "0a1b2c3e", "metadata": {},
   "outputs": [
    {"data": {"image/png": ["iVBORw0KGgo%s\\n", "%s"], "text/plain": ["<Figure>"]},
     "metadata": {}, "output_type": "display_data"},
    {"name": "stdout", "output_type": "stream", "text": ["one\\n", "two\\n"]}],
   "source": ["import os\\n", "print(1)"]}
 ],
 "metadata": {"kernelspec": {"display_name": "py", "name": "python3"}},
 "nbformat": 4, "nbformat_minor": 5
}
""" % (("Ab3/" * 30,) * 3)


def test_a_notebook_of_version_3_is_read_cells_first():
    form = read_form(GOLDEN_3)

    assert form.kind == "notebook"
    assert form.texts[0].split("\n") == [
        *("", "Title"),
        *("a = 1", 'b = "x"', "1", "2", "<b>1</b>", "KeyError", "'k'", "t1", "t2"),
        *('"name": "Report of Jane"', "", '"name": "Jane Roe"', "", '"language": "python"', ""),
    ]


def test_a_notebook_of_version_4_is_read_without_its_pictures():
    assert read_form(GOLDEN_4).texts[0].split("\n") == [
        *("", "see", "![](attachment:jane.png)"),
        *("import os", "print(1)", "<Figure>", "one", "two", ""),
        *('"jane.png": ', '"owner": "jane"', "", '"display_name": "py"', "", '"name": "python3"'),
        "",
    ]


def test_notebooks_of_versions_1_and_2_are_read_too():
    for document in (
        {"nbformat": 1, "cells": [{"cell_type": "code", "code": "x", "input": VALUE}]},
        {"nbformat": 2, "worksheets": [{"cells": [{"cell_type": "code", "input": VALUE}]}]},
    ):
        text = json.dumps(document)
        assert json.loads(redacted(text, VALUE)) == with_tags(document, VALUE)


def test_a_value_over_several_lines_is_replaced_in_each():
    text = json.dumps(version_4(cells=[code_cell(["k = '''ab\n", "  cd\n", "ef'''\n"])]))
    form = read_form(text)

    spans = form.to_original([spans_of(form.texts[0], "ab\n  cd\nef", "KEY")])

    assert [text[span.start : span.end] for span in spans] == ["ab", "cd", "ef"]
    assert json.loads(apply_form(text, form, spans, tag_operator).text)["cells"][0]["source"] == [
        "k = '''<KEY>\n",
        "  <KEY>\n",
        "<KEY>'''\n",
    ]


def test_colours_of_a_terminal_are_not_read_and_stay():
    text = json.dumps(version_4(cells=[code_cell("x", [stream(f"{ANSI}a{ANSI}b \\u001b[0m")])]))
    form = read_form(text)
    assert "\nab \\u001b[0m" in form.texts[0]

    spans = form.to_original([spans_of(form.texts[0], "ab")])
    outputs = json.loads(apply_form(text, form, spans, tag_operator).text)["cells"][0]["outputs"]

    assert outputs[0]["text"] == f"{ANSI}<PASSWORD>{ANSI}<PASSWORD> \\u001b[0m"


@pytest.mark.parametrize("key", ["image/png", "text/plain", "png"])
def test_text_where_a_picture_is_expected_is_read(key):
    document = version_4(cells=[code_cell("x", [bundle(**{key: VALUE})])])

    assert json.loads(redacted(json.dumps(document), VALUE)) == with_tags(document, VALUE)


def test_pictures_inside_a_text_are_left_out_of_it():
    picture = "data:image/png;base64," + "Ab3/" * 50
    text = json.dumps(version_4(cells=[code_cell(f'"<img src={picture}>" {VALUE}')]))

    assert '"<img src=data:image/png;base64,>" pä' in read_form(text).texts[0]
    assert picture in redacted(text, VALUE)
    assert "w0rd" not in redacted(text, VALUE)


def test_a_long_secret_in_base64_is_no_picture():
    secret = "c2Vj" * 60
    text = json.dumps(version_4(cells=[code_cell("x", [bundle(**{"image/png": secret})])]))

    assert secret in read_form(text).texts[0]


def test_text_after_the_beginning_of_a_picture_is_read():
    text = json.dumps(
        version_4(cells=[code_cell("x", [bundle(**{"image/png": "iVBORw0KGgo" * 20 + VALUE})])])
    )

    assert VALUE in read_form(text).texts[0]


def test_names_of_the_format_are_never_found():
    text = json.dumps(version_4(cells=[code_cell("x", [stream("y")])]))
    form = read_form(text)

    spans = form.to_original([[Span(start=0, end=len(form.texts[0]), label="NAME")]])

    assert [text[span.start : span.end] for span in spans] == ["y", "x"]


def with_mails_redacted(text):
    form = read_form(text)
    found = [
        Span(start=match.start(), end=match.end(), label="KEY")
        for match in re.finditer(r"[a-z]\d@x", form.texts[0])
    ]
    return apply_form(text, form, form.to_original([found]), tag_operator)


def test_keys_of_an_object_that_would_become_equal_are_numbered():
    metadata = {
        "a1@x": 1,
        "b2@x y": {"c3@x": "d4@x", "e5@x": 3, "f6@x": 4},
        "g7@x y": 5,
        "h8@x, i9@x": 6,
        "j1@x, k2@x": 7,
        "<KEY>_2": 8,
        "l3@x": 9,
        "m4@x": 10,
        "x": ["n5@x", {"o6@x": 11}],
    }
    text = json.dumps(version_4(metadata=metadata))

    redaction = with_mails_redacted(text)

    assert json.loads(redaction.text)["metadata"] == {
        "<KEY>": 1,
        "<KEY> y": {"<KEY>": "<KEY>", "<KEY>_2": 3, "<KEY>_3": 4},
        "<KEY>_2 y": 5,
        "<KEY>, <KEY>": 6,
        "<KEY>, <KEY>_2": 7,
        "<KEY>_2": 8,
        "<KEY>_3": 9,
        "<KEY>_4": 10,
        "x": ["<KEY>", {"<KEY>": 11}],
    }
    for replacement in redaction.replacements:
        assert redaction.text[replacement.start : replacement.end].startswith("<KEY>")
        assert redaction.text[replacement.end] in '", '


@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a1@x", "b2@x", "c3@x", "<KEY>", "_2", "_3", '"'])).map("".join),
        st.integers(),
    )
)
def test_no_entry_of_an_object_is_lost(metadata):
    redaction = with_mails_redacted(json.dumps(version_4(metadata=metadata)))

    after = json.loads(redaction.text)["metadata"]
    assert list(after.values()) == list(metadata.values())
    assert {key: after.get(key) for key in metadata if "@" not in key} == {
        key: value for key, value in metadata.items() if "@" not in key
    }


def test_a_replacement_is_escaped_and_the_operator_sees_the_value_itself():
    text = json.dumps(version_4(cells=[code_cell(VALUE)]))
    form = read_form(text)
    spans = form.to_original([spans_of(form.texts[0], VALUE)])
    seen = []

    def operator(value, span):
        seen.append(value)
        return 'a"\n\\'

    redaction = apply_form(text, form, spans, operator)

    assert seen == [VALUE]
    assert json.loads(redaction.text)["cells"][0]["source"] == 'a"\n\\'
    assert apply_form(text, form, spans, lambda value, span: value).text == text


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff {"nbformat": 4, "cells": [{"source": "a\\ud800"}]}',
        '{"nbformat": 4, "cells": [], "cells": [{"source": "a\\ud800"}]}',
        '{"nbformat": 4' + "0" * 5000 + ', "cells": [{"source": "a\\ud800"}, NaN, -Infinity]}',
    ],
)
def test_odd_but_valid_json_is_read(text):
    form = read_form(text)
    assert form.kind == "notebook"
    assert form.texts[0] == "\na\ufffd" or form.texts[0].endswith('"source": "a\ufffd"\n')

    (span,) = form.to_original([spans_of(form.texts[0], "a\ufffd")])
    assert text[span.start : span.end] == "a\\ud800"


@pytest.mark.parametrize("depth", [10, DEEPEST - 3, DEEPEST, 100_000])
def test_json_that_is_too_deep_is_plain(depth):
    text = '{"nbformat": 4, "cells": [{"metadata": ' + "[" * depth + "]" * depth + "}]}"

    assert read_form(text).kind == ("notebook" if depth + 3 <= DEEPEST else "plain")


@pytest.mark.parametrize("piece", ["[", '{"a":', '\\"', '""', "]", " ", '"\\u001b[0;', "\\"])
def test_broken_json_of_a_megabyte_is_plain_at_once(piece):
    assert read_form('{"cells":"' + piece * 500_000).kind == "plain"
