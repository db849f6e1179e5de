import os
import subprocess
import sys

from pii.harvest import harvest_prose, harvest_words

WORDS = "server buffer stream widget cloud parse render apple river config engine token".split()


def test_the_commonest_words_everywhere_are_left_out():
    texts = [f"return value {word} thing" for word in WORDS] * 3

    assert set(harvest_words(texts)) == {word for word in WORDS if 4 <= len(word) <= 9}


def test_words_come_in_the_same_order_in_every_process():
    program = (
        "import sys\n"
        "from pii.harvest import harvest_words\n"
        "print(harvest_words([' '.join(sys.argv[1:]), *['x'] * 20]))\n"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", program, *WORDS],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(orders) == 1


def test_comments_are_sorted_by_whether_they_speak_of_credentials():
    prose = harvest_prose(
        ["// look the user up in the cache\nx = 1\n# walk the tree from its root.\n"]
    )

    assert "look the user up in the cache" in prose.credential_comments
    assert "walk the tree from its root" in prose.comments
    assert "look the user up in the cache" not in prose.comments


def test_comments_that_may_name_somebody_or_hold_a_value_are_not_taken():
    lines = [
        "// this was written by lena in spring",
        "// asked Lena Novak for the format",
        "# the password is tulip",
        "# mail to dev@lists before you change it",
        "# copyright belongs to all of us",
    ]
    prose = harvest_prose(["\n".join(lines)])

    empty = harvest_prose([])
    assert prose == empty


def test_translations_are_taken_but_for_those_with_a_name_or_a_slot():
    file = (
        'msgid "Wrong password"\nmsgstr "Nesprávné heslo"\n'
        'msgid "By"\nmsgstr "Přeložila Lena Nováková"\n'
        'msgid "%s is gone"\nmsgstr "Soubor %s zmizel"\n'
    )
    phrases = harvest_prose([file]).phrases

    assert "Nesprávné heslo" in phrases
    assert not any("Lena" in phrase or "%s" in phrase for phrase in phrases)
