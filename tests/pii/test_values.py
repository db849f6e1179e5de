"""The formats are checked by others' readers: ipaddress, email, uuid, base64, json."""

import base64
import ipaddress
import json
import random
import re
import string
import unicodedata
from collections import Counter
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("faker")

import pii.people
from pii.labels import LABELS
from pii.people import People, ascii_letters
from pii.providers import PREFIX_RULES
from pii.secret_values import SecretMaker, provider_key, random_match
from pii.values import ValueMaker
from starencoder.errors import ConfigError

WORDS = "server buffer stream widget cloud parse render apple river config engine token".split()


@pytest.fixture(scope="module")
def values():
    return ValueMaker(random.Random(1), WORDS)


def drawn(values, label, count=400, kind="real"):
    return [values.make(label, kind).text for _ in range(count)]


def test_the_same_seed_gives_the_same_values_and_another_seed_others():
    def first_values(seed):
        maker = ValueMaker(random.Random(seed), WORDS)
        return [maker.make(label) for label in LABELS for _ in range(20)]

    first = first_values(3)
    assert first_values(3) == first
    assert first_values(4) != first


@pytest.mark.parametrize("label", LABELS)
def test_values_are_one_line_without_blank_ends_and_hardly_ever_the_same(values, label):
    found = drawn(values, label)

    assert all(value and value == value.strip() and "\n" not in value for value in found)
    assert len(set(found)) > 0.85 * len(found)


def test_an_unknown_label_is_an_error(values):
    with pytest.raises(ValueError, match="not among LABELS"):
        values.make("PHONE", "real")


def test_real_addresses_are_public_and_examples_are_not(values):
    real = [ipaddress.ip_address(text) for text in drawn(values, "IP_ADDRESS")]

    assert all(address.is_global and not address.is_multicast for address in real)
    assert {address.version for address in real} == {4, 6}
    for text in drawn(values, "IP_ADDRESS", kind="example"):
        address = ipaddress.ip_address(text)
        known = text in ("8.8.8.8", "1.1.1.1", "1.2.3.4")
        assert known or not address.is_global or address.is_multicast


def test_addresses_of_the_usual_form_are_what_a_mail_reader_takes(values):
    found = drawn(values, "EMAIL")
    usual = [text for text in found if re.fullmatch(r"[^\s@]+@[^\s@\[\]]+", text)]

    assert 0.8 * len(found) < len(usual) < len(found)
    for text in usual:
        assert parseaddr(f"Made Up <{text}>")[1] == text
        assert re.fullmatch(r"[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}", text)


def test_names_have_many_scripts_and_orders(values):
    found = "".join(drawn(values, "NAME", 3000))
    scripts = {
        "Latin with diacritics": "[à-žÀ-Ž]", "Cyrillic": "[а-я]", "Greek": "[α-ω]",
        "Arabic": "[ء-ي]", "Han": "[一-鿿]", "Hangul": "[가-힣]", "Devanagari": "[ऀ-ॿ]",
    }  # fmt: skip
    assert [name for name, chars in scripts.items() if not re.search(chars, found)] == []


def test_a_person_keeps_the_script_of_the_name_and_gives_handle_and_address_alike():
    people = People(random.Random(5), WORDS)
    shared = 0
    for _ in range(300):
        person = people.person()
        latin = [
            all(unicodedata.name(char).startswith("LATIN") for char in part if char.isalpha())
            for part in (person.given, person.family)
        ]
        assert latin[0] == latin[1]
        parts = [ascii_letters(part).lower() for part in (person.given, person.family)]
        handle = people.handle(person).lower()
        shared += any(part[:3] in handle for part in parts if len(part) > 2)
    assert shared > 120


def test_a_culture_without_names_is_an_error(tmp_path, monkeypatch):
    parts = tmp_path / "parts.toml"
    parts.write_text("[x]\ngiven = ['A']\nfamily_start = ['B']\n", encoding="utf-8")
    monkeypatch.setattr(pii.people, "_PARTS", parts)

    with pytest.raises(ConfigError, match=r"parts\.toml: cultures\.x\.family needs"):
        People(random.Random(1), WORDS)


NO_GROUPS = [rule for rule in PREFIX_RULES if "(?" not in rule.regex.replace("(?:", "")]


@pytest.mark.parametrize("rule", NO_GROUPS, ids=lambda rule: rule.name)
def test_a_random_match_is_a_match(rule):
    rng = random.Random(rule.name)
    for _ in range(5):
        assert re.fullmatch(rule.regex, random_match(rule.regex, rng))


@pytest.mark.parametrize("regex", ["a*", "(?=a)b", "(a)", "a)", "a.b"])
def test_an_expression_that_is_not_understood_is_an_error(regex):
    with pytest.raises(ValueError, match="not understood"):
        random_match(regex, random.Random(1))


def test_provider_keys_are_of_many_providers():
    rng = random.Random(2)
    assert len({provider_key(rng)[:4] for _ in range(400)}) > 60


def test_keys_have_many_alphabets_and_lengths(values):
    found = drawn(values, "KEY", 2000)

    assert {len(key) for key in found} >= set(range(16, 50))
    for name, chars in (
        ("hex", string.hexdigits), ("lower", string.ascii_lowercase + string.digits),
        ("upper", string.ascii_uppercase + string.digits),
        ("base64", string.ascii_letters + string.digits + "+/="),
        ("base64url", string.ascii_letters + string.digits + "-_"),
    ):  # fmt: skip
        assert sum(not set(key) - set(chars) for key in found) > 40, name


def test_web_tokens_have_a_header_that_says_their_algorithm(values):
    tokens = [key for key in drawn(values, "KEY", 2000) if re.match(r"eyJ[^.]+\.eyJ[^.]+\.", key)]

    assert len(tokens) > 20
    for token in tokens:
        header = token.split(".")[0]
        assert "alg" in json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))


def test_passwords_are_words_joined_words_leetspeak_and_phrases_as_well_as_random(values):
    found = drawn(values, "PASSWORD", 3000)
    shapes = Counter()
    for password in found:
        shapes["word"] += password in WORDS
        shapes["word and figures"] += any(
            re.fullmatch(rf"(?i){word}[\d!#$%@?*_-]+", password) for word in WORDS
        )
        shapes["joined"] += sum(word in password.lower() for word in WORDS) > 1
        shapes["phrase"] += password.count(" ") > 1
        shapes["figures only"] += password.isdigit()
        shapes["no ASCII"] += not password.isascii()
        shapes["marks"] += bool(re.search(r"[!@#$%^&*]", password))
        shapes["walk"] += "qwer" in password or "asdf" in password or "1qaz" in password
    assert min(shapes.values()) > 10, shapes


@given(st.sampled_from(["password", "television", "buffer"]), st.integers())
def test_leetspeak_has_the_length_of_the_word_and_letters_only_change_into_their_likes(word, seed):
    secrets = SecretMaker(random.Random(seed), WORDS, lambda: "x")
    back = str.maketrans("4@3!10$5789", "aaeiiosstbg")

    leet = secrets.leet(word).lower()

    assert len(leet) == len(word)
    assert leet.translate(back).replace("l", "i") == word.replace("l", "i")


def test_a_private_key_is_base64_in_lines_of_one_width(values):
    for _ in range(20):
        *lines, last = values.private_key()
        assert len({len(line) for line in lines}) == 1
        assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", "".join([*lines, last]))


def test_a_password_is_hardly_ever_a_plain_word_and_never_what_a_password_is_called():
    rng = random.Random(4)
    words = [*WORDS, "password", "passwords", "passphrase"]
    maker = SecretMaker(rng, words, lambda: "lena")

    found = [maker.password() for _ in range(4000)]

    plain = [password for password in found if password in words]
    assert len(plain) < 0.02 * len(found)
    called = (
        "password passwords passphrase contraseña contrasena пароль hasło kennwort 密码".split()
    )
    assert not any(re.split(r"[\W\d_]+", password.lower())[0] in called for password in found)


def test_a_user_name_is_hardly_ever_a_plain_word(values):
    found = drawn(values, "USERNAME", 3000)

    assert sum(name.lower() in WORDS for name in found) < 0.01 * len(found)
