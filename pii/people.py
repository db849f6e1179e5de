"""Made-up people: their names as source files spell them, and their account handles.

Given and family names are drawn apart, from several sources (Faker's lists, the parts of
`name_parts.toml`, words of real code, bare syllables), so that no pair comes from a list.
"""

import random
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starencoder.errors import ConfigError, MissingExtraError
from starencoder.toml import from_toml, read_toml

_PARTS = Path(__file__).with_name("name_parts.toml")
# Latin script first and often; the others so that no script is unknown.
_LOCALES = {
    "en_US": 10, "en_GB": 8, "de_DE": 8, "fr_FR": 7, "es_ES": 5, "it_IT": 5, "pt_BR": 5,
    "nl_NL": 5, "sv_SE": 4, "da_DK": 3, "no_NO": 3, "fi_FI": 3, "pl_PL": 4, "cs_CZ": 4,
    "hu_HU": 3, "ro_RO": 3, "hr_HR": 3, "tr_TR": 3, "en_IN": 5, "id_ID": 2, "vi_VN": 2,
    "fil_PH": 1, "es_MX": 2, "fr_CA": 2, "de_AT": 2, "et_EE": 1, "lt_LT": 1, "lv_LV": 1,
    "sk_SK": 2, "sl_SI": 2, "ga_IE": 1, "en_NZ": 1, "zu_ZA": 1, "ru_RU": 2, "uk_UA": 1,
    "bg_BG": 1, "el_GR": 1, "zh_CN": 1, "zh_TW": 1, "ja_JP": 1, "ko_KR": 1, "ar_SA": 1,
    "he_IL": 1, "fa_IR": 1, "hi_IN": 1, "th_TH": 1,
}  # fmt: skip
_NAMES_PER_LOCALE = 150
_FAKER_SHARE = 0.45
_LEET = str.maketrans("aeiost", "431057")


@dataclass(frozen=True, slots=True)
class _Culture:
    """One table of `name_parts.toml`, whose head says what each field is."""

    given: tuple[str, ...] = ()
    given_start: tuple[str, ...] = ()
    given_end: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    family_start: tuple[str, ...] = ()
    family_end: tuple[str, ...] = ()
    particles: tuple[str, ...] = ()
    weight: float = 1.0
    family_first: bool = False
    joined: bool = False

    def __post_init__(self) -> None:
        for name in ("given", "family"):
            start, end = getattr(self, f"{name}_start"), getattr(self, f"{name}_end")
            if not (getattr(self, name) or start) or bool(start) != bool(end):
                raise ConfigError(f"{name} needs a list, or both {name}_start and {name}_end")


@dataclass(frozen=True, slots=True)
class _Cultures:
    cultures: Mapping[str, _Culture]


@dataclass(frozen=True, slots=True)
class Person:
    """A made-up person's names, and how the culture writes them."""

    given: str
    family: str
    particle: str = ""
    family_first: bool = False
    joined: bool = False


class People:
    """Draws people, their names and handles; the same generator state gives the same people."""

    def __init__(self, rng: random.Random, words: Sequence[str]) -> None:
        """Collect the parts of names.

        Args:
            rng: Where all randomness comes from.
            words: Lower-case words of real code.

        Raises:
            ConfigError: `name_parts.toml` is not of the form its head says.
            MissingExtraError: Faker, of the extra `train`, is not installed.
        """
        try:
            from faker import Faker
        except ImportError as error:
            raise MissingExtraError(
                "faker is not installed; made-up values need it: pip install 'starencoder[train]'"
            ) from error
        self._rng = rng
        self._words = words
        self._fake_names: list[tuple[list[str], list[str]]] = []
        for locale in _LOCALES:
            fake = Faker(locale)
            fake.seed_instance(rng.getrandbits(32))
            given = [fake.first_name() for _ in range(_NAMES_PER_LOCALE)]
            self._fake_names.append((given, [fake.last_name() for _ in range(_NAMES_PER_LOCALE)]))
        tables = from_toml(_Cultures, {"cultures": read_toml(_PARTS)}, str(_PARTS))
        self._cultures = list(tables.cultures.values())

    def person(self) -> Person:
        """A person of one culture, now and then with a family name of another one."""
        rng = self._rng
        person = self._person()
        source = rng.random()
        if source < 0.12:  # married, moved
            other = self._person()
            if _is_latin(person.given) and _is_latin(other.family):
                return Person(person.given, other.family)
            return person
        if not _is_latin(person.given):
            return person
        if source < 0.15:  # a family name that is a word
            return Person(person.given, rng.choice(self._words).capitalize())
        if source < 0.18:  # a name that is in nobody's list
            family = self.syllables(rng.randint(2, 3)).capitalize()
            return Person(person.given, family + rng.choice(["", "n", "s", "sky", "son", "ic"]))
        return person

    def _person(self) -> Person:
        rng = self._rng
        if rng.random() < _FAKER_SHARE:
            firsts, lasts = rng.choices(self._fake_names, list(_LOCALES.values()))[0]
            first = rng.choice(firsts)
            east_asian = ord(first[0]) > 0x2E00
            return Person(first, rng.choice(lasts), "", east_asian, east_asian)
        culture = rng.choices(self._cultures, [culture.weight for culture in self._cultures])[0]
        given = self._part(culture.given, culture.given_start, culture.given_end)
        family = self._part(culture.family, culture.family_start, culture.family_end)
        particle = ""
        if culture.particles and rng.random() < 0.25:
            particle = rng.choice(culture.particles)
        return Person(given, family, particle, culture.family_first, culture.joined)

    def _part(self, whole: Sequence[str], start: Sequence[str], end: Sequence[str]) -> str:
        if whole and (not start or self._rng.random() < 0.5):
            return self._rng.choice(whole)
        first, last = self._rng.choice(start), self._rng.choice(end)
        # No letter three times, as in Rossson.
        return first + (last[1:] if first[-2:] == last[:1] * 2 else last)

    def name(self, person: Person | None = None) -> str:
        """A person's name, in one of the forms that source files hold."""
        rng = self._rng
        person = person or self.person()
        given, family = person.given, person.family
        if person.joined:
            return f"{family} {given}" if rng.random() < 0.2 else family + given
        if person.particle:
            family = f"{person.particle} {family}"
        if person.family_first and rng.random() < 0.4:
            shown = family.upper() if rng.random() < 0.15 else family
            return f"{shown} {given}"
        form = rng.random()
        if form < 0.62:
            return f"{given} {family}"
        if form < 0.69:
            return f"{given} {rng.choice(string.ascii_uppercase)}. {family}"
        if form < 0.74:
            return f"{given[0]}. {family}"
        if form < 0.76:
            return f"{given[0]}.{rng.choice(['', ' '])}{rng.choice('ABCDEFGHJKLMPRST')}. {family}"
        if form < 0.79:
            return f"{family}, {given}"
        if form < 0.81:
            return f"{family} {given}"
        if form < 0.84:
            other = self._person().given
            return f"{given} {other} {family}" if _is_latin(other + given) else f"{given} {family}"
        if form < 0.87 and _is_latin(given):
            other = self._person().family
            joint = rng.choice("- ")
            return f"{given} {family}{joint}{other}" if _is_latin(other) else f"{given} {family}"
        if form < 0.88:
            return f'{given} "{self.handle()}" {family}'
        if form < 0.90:
            return f"{given} {family}".lower()
        if form < 0.92:
            return f"{given} {family.upper()}"
        if form < 0.93:
            return f"{given} {family} {rng.choice(['Jr.', 'III', 'II', 'Sr.'])}"
        if form < 0.94:
            return _plain(f"{given} {family}")
        return given if form < 0.98 else family

    def handle(self, person: Person | None = None) -> str:
        """An account handle, from a name, from words, or from neither."""
        rng = self._rng
        # Of somebody whose name stands beside it, the handle more often has the name in it.
        form = rng.random() * (1.0 if person is None else 0.75)
        person = person or self.person()
        given, family = (
            ascii_letters(part).lower() or self.syllables(2)
            for part in (person.given, person.family)
        )
        word, other = rng.choice(self._words), rng.choice(self._words)
        digits = str(
            rng.choice([rng.randint(0, 99), rng.randint(100, 999), rng.randint(1960, 2012)])
        )
        # A word alone is rare: code is full of words that are nobody's handle.
        rare = word if rng.random() < 0.2 else word + digits
        if form < 0.55:
            handle = rng.choice(
                [
                    given[0] + family, given[0] + family, given + family[0], given, family,
                    given + family, f"{given}.{family}", f"{given}_{family}", f"{given}-{family}",
                    family + given[0], family + given, f"{given[0]}{family[:7]}",
                    given[:3] + family[:3], family[: rng.randint(3, 6)], given[:2] + family[:4],
                    f"{given[0]}{rng.choice(string.ascii_lowercase)}{family}",
                    given[0] + rng.choice(string.ascii_lowercase) + family[0],
                ]
            )  # fmt: skip
        elif form < 0.75:
            handle = rng.choice(
                [
                    word + other, f"{word}-{other}", f"{word}_{other}", f"{word}{given}",
                    f"{given}{word}", f"the{given}", f"{given}the{word}", f"{word}_{given}", rare,
                    f"{word}ninja", f"{given}-dev", f"{given}codes", f"real{given}", f"i{word}",
                    word.capitalize() + other.capitalize(), f"mr-{word}", f"{word}er", f"x{given}x",
                ]
            )  # fmt: skip
        else:
            handle = self.syllables(rng.randint(2, 4))
            if rng.random() < 0.3:  # as nicknames lose their vowels
                handle = handle[0] + "".join(char for char in handle[1:] if char not in "aeiou")
                handle += rng.choice(string.ascii_lowercase)
        style = rng.random()
        if style < 0.2:
            handle += rng.choice(["", "", "_", "-"]) + digits
        elif style < 0.23:
            handle = handle[0] + handle[1:].translate(_LEET)
        if rng.random() < 0.12:
            handle = handle[0].upper() + handle[1:]
        elif rng.random() < 0.04:
            handle = given.capitalize() + family.capitalize()
        return handle if len(handle) > 1 else handle + family

    def syllables(self, count: int) -> str:
        """So many syllables that no word list has."""
        rng = self._rng
        onsets = [*"bcdfghjklmnprstvwxyz", "br", "ch", "kr", "sh", "st", "th", "tr", "qu"]
        return "".join(
            rng.choice(onsets) + rng.choice([*"aeiou", "ai", "oo", "y", "ei"]) for _ in range(count)
        ) + rng.choice(["", "", "x", "n", "k", "z", "r", "ll"])


def ascii_letters(text: str) -> str:
    """The ASCII letters of a word, accents taken off."""
    return "".join(char for char in _plain(text) if char.isascii() and char.isalpha())


def _plain(text: str) -> str:
    """Text without accents, as those type it whose keyboard has none."""
    text = text.translate(str.maketrans("łŁøØđĐßıæ", "lLoOdDsia"))
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not _is_mark(char))


def _is_latin(text: str) -> bool:
    return all(unicodedata.name(char, "").startswith("LATIN") for char in text if char.isalpha())


def _is_mark(char: str) -> bool:
    return unicodedata.combining(char) > 0
