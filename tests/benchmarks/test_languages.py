from benchmarks.languages import iter_windows, messages_of

CATALOGUE = """# Jane Roe <jane@roe.example>, 2011
msgid ""
msgstr ""
"Last-Translator: Jane Roe\\n"

msgid "Password"
msgstr "Passwort"

msgid "%(name)s is taken"
msgstr "%(name)s ist vergeben"

msgid "untranslated"
msgstr ""
"""


def test_messages_are_those_without_placeholders_and_header(tmp_path):
    for app in ("admin", "auth"):
        path = tmp_path / app / "locale" / "de" / "LC_MESSAGES" / "django.po"
        path.parent.mkdir(parents=True)
        path.write_text(CATALOGUE, encoding="utf-8")
    assert messages_of(tmp_path) == {"de": ["Passwort", "Passwort"]}


def test_windows_are_code_and_hold_each_message_once():
    messages = [f"Meldung {number}" for number in range(60)]
    windows = list(iter_windows(messages))
    assert len(windows) == 2
    for window in windows:
        compile(f"if True:\n    pass\n{window}", "window", "exec")
    assert [m for m in messages if m + "\n" in "".join(windows).replace('")', "")] == messages[:50]
