"""Lines that are written into real code: the mix that `synthesis.toml` states, its slots filled."""

import base64
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pii.harvest import Prose
from pii.labels import LABELS
from pii.people import Person
from pii.values import ValueMaker
from starencoder.errors import ConfigError
from starencoder.languages import LANGUAGES
from starencoder.toml import from_toml, read_toml

DEFAULT_MIX = Path(__file__).with_name("synthesis.toml")

ANY_LANGUAGE = "*"
_NEGATIVE = "none_"
_SLOT = re.compile(r"\{([A-Za-z][A-Za-z_0-9]*)(?::(\d+))?\}")
_ALMOST_SLOT = re.compile(r"\{([A-Za-z][A-Za-z_0-9]*)(?::[^\s\"'{}]*\}|\s*\0)")
"""In a line whose slots are NUL: what was meant as one and would be written as it is."""
_VALUE_SLOTS = {
    **{label: label for label in LABELS},
    "NAME_GIVEN": "NAME",
    "NAME_FAMILY": "NAME",
    "PEM": "KEY",
    "PEM_STRING": "KEY",
}
_PLAIN_SLOTS = frozenset(
    "word Word host version hash b64 hex digits uuid num year year_range date time scheme path org "
    "var pair org_handle hex_rows b64_rows phrase comment credential_comment c".split()
)
_PER_PERSON = ("NAME", "USERNAME", "EMAIL")
# Slots that are drawn anew each time they stand in a line; the others recur.
_FRESH = frozenset("word Word num hex b64 digits year hash uuid phrase".split())
_COUNTED = {"hex": 32, "b64": 64, "digits": 8, "hex_rows": 4, "b64_rows": 6}
"""Slots that take a number, and the one they have without."""
_LONGEST_COUNT = 2000

_CAMEL = frozenset(
    ("JavaScript", "TypeScript", "Vue", "Java", "C#", "Scala", "Kotlin", "Swift", "JSON", "Go",
     "Dart", "Groovy")
)  # fmt: skip
_COMMENT_MARKS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("C++", "Java", "C#", "Go", "Rust", "Scala", "Kotlin", "Swift", "JavaScript", "TypeScript",
         "PHP", "Groovy", "Protobuf", "SCSS"),
        ("//", ""),
    ),
    **dict.fromkeys(
        ("Python", "Ruby", "Perl", "Shell", "YAML", "TOML", "Config", "Dockerfile", "Makefile", "R",
         "PowerShell", "Tcl", "Elixir", "Properties", "HCL", "CMake", "LDIF", "Gettext"),
        ("#", ""),
    ),
    **dict.fromkeys(("Lua", "SQL", "Haskell"), ("--", "")),
    **dict.fromkeys(("XML", "HTML", "Vue", "Markdown"), ("<!--", " -->")),
    **dict.fromkeys(("C", "CSS"), ("/*", " */")),
    "OCaml": ("(*", " *)"),
    "Erlang": ("%%", ""),
    "INI": (";", ""),
    "M4": ("dnl", ""),
    "reStructuredText": ("..", ""),
}  # fmt: skip
_JOINTS = {
    # How a string of several lines is written: between two lines, the closing quote aside.
    **dict.fromkeys(("C", "C++"), '\\n"\n    "'),
    **dict.fromkeys(("Java", "C#", "JavaScript", "TypeScript", "Scala", "Kotlin"), '\\n" +\n    "'),
    **dict.fromkeys(("Python", "PHP", "Perl", "Shell"), "\n"),
}
_COMPANY_FORMS = (
    " Inc.|, Inc.|, Inc|, LLC| Ltd|, Ltd.| GmbH| AG| Corporation| Corp.| Foundation| Project| Team|"
    " Contributors| Authors| Software| Systems| Labs| Technologies| Media| Networks| Group||"
    " S.p.A.| S.r.l.| Sp. z o.o.| s.r.o.| B.V.| A/S| AB| Oy| SARL| SAS| Ltda.| S.A.| Pty Ltd| K.K.|"
    " Co., Ltd.| & Co. KG| University| Institute| Consulting| Solutions| Developers| Maintainers"
).split("|")
_STARTS = {
    "JSON": ('"', "{", "["),
    "XML": ("<", "{c}"),
    "Gettext": ("{c}", "#", '"', "msg"),
    "CSS": ("{c}", ".", "@", "color", "background", "content", "font"),
}
"""How a line must begin that stands in a language of a strict form."""
_PEM_KINDS = ("RSA ", "RSA ", "", "EC ", "OPENSSH ", "DSA ", "ENCRYPTED ")
_QUOTES = "\"'`"
_TRIES = 30


@dataclass(frozen=True, slots=True)
class Table:
    """Lines, and where they belong."""

    groups: tuple[str, ...]
    """The languages the lines are written in; `*` for any."""
    lines: tuple[str, ...]
    weight: float = 1.0
    """How often one of the lines is drawn among all lines of a language."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of what; shares in [0, 1]."""

    label: Mapping[str, float]
    """How often a line is written for the sake of each label."""
    lines: Mapping[str, float]
    """How often a window gets so many lines."""
    negative: float
    """Of lines written that hold no entity."""
    example: float
    """Of values of kind `example`."""
    near_site: float
    """Of windows drawn around a site; the others are drawn anywhere."""
    kept_key: float
    """Of keys of real code that stay: those of published packages are test keys."""
    organisation: float
    """Of owners in repository URLs that become an organisation's account, which is no entity."""
    other_language: float
    """Of lines drawn from every table, as if the file's language were another one."""

    def __post_init__(self) -> None:
        for name in ("negative", "example", "near_site", "kept_key", "organisation",
                     "other_language"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for label in self.label:
            if label not in LABELS:
                raise ConfigError(f"label.{label} is not a label; known: {', '.join(LABELS)}")
        for count in self.lines:
            if not count.isdecimal():
                raise ConfigError(f"lines.{count} is not a whole number of lines")
        for name in ("label", "lines"):
            shares = getattr(self, name).values()
            if min(shares, default=0) < 0 or sum(shares) <= 0:
                raise ConfigError(f"{name} needs shares of 0 or more, one of them more")


@dataclass(frozen=True, slots=True)
class Mix:
    """What is written into real code: `synthesis.toml`, whose head says what its tables are."""

    shares: Shares
    identifiers: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, tuple[str, ...]]
    lines: Mapping[str, Table]

    def __post_init__(self) -> None:
        taken = set(_VALUE_SLOTS).union(_PLAIN_SLOTS)
        for name in (*self.identifiers, *self.slots):
            if name in taken:
                raise ConfigError(f"the slot {{{name}}} is stated twice")
            taken.add(name)
        for name, table in self.lines.items():
            for group in table.groups:
                if group != ANY_LANGUAGE and group not in LANGUAGES:
                    raise ConfigError(f"lines.{name}.groups: {group} is not a language")
            for line in table.lines:
                self._check(name, line)

    def _check(self, name: str, line: str) -> None:
        known = self.known_slots()
        labelled = False
        for slot, count in _SLOT.findall(line):
            if slot not in known:
                raise ConfigError(
                    f"lines.{name}: unknown slot {{{slot}}}; known: {', '.join(sorted(known))}"
                )
            if count and (slot not in _COUNTED or not 0 < int(count) <= _LONGEST_COUNT):
                raise ConfigError(
                    f"lines.{name}: {{{slot}:{count}}}; {', '.join(sorted(_COUNTED))} take a "
                    f"number, in 1..{_LONGEST_COUNT}"
                )
            labelled |= slot in _VALUE_SLOTS
        almost = _ALMOST_SLOT.search(_SLOT.sub("\0", line))
        if almost:
            raise ConfigError(
                f"lines.{name}: no slot from {{{almost[1]} on; expected {{{almost[1]}}}, closed, "
                "and after a colon nothing but a number"
            )
        if labelled == name.startswith(_NEGATIVE):
            raise ConfigError(
                f"lines.{name}: a line with a labelled slot in a table of hard negatives, or one "
                f"without in another; tables of lines without entities are named {_NEGATIVE}*"
            )

    def known_slots(self) -> frozenset[str]:
        """Every slot that a line may have."""
        environment = {f"{name.removesuffix('_var')}_env" for name in self.identifiers}
        return _PLAIN_SLOTS.union(_VALUE_SLOTS, self.identifiers, environment, self.slots)


def load_mix(path: Path = DEFAULT_MIX) -> Mix:
    """Read a mix.

    Raises:
        ConfigError: It cannot be read, a setting is unknown, missing or out of range, a slot is
            unknown, or a table of hard negatives has a labelled slot.
    """
    return from_toml(Mix, read_toml(path), str(path))


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text of a window, labelled or not."""

    text: str
    label: str | None = None
    kind: str = "real"
    template: str = ""
    """The site or table of lines it comes from; none for text of the file itself."""


@dataclass(frozen=True, slots=True)
class Template:
    """One line, or several, and the table it is from."""

    text: str
    table: str
    labels: frozenset[str]
    weight: float


class LineMaker:
    """Draws lines of a mix for a language and fills their slots."""

    def __init__(
        self,
        mix: Mix,
        rng: random.Random,
        values: ValueMaker,
        prose: Prose,
    ) -> None:
        """Sort the lines by language.

        Args:
            mix: The lines.
            rng: Where all randomness comes from.
            values: Draws values and words.
            prose: For `{phrase}`, `{comment}` and `{credential_comment}`.
        """
        self._mix = mix
        self._rng = rng
        self._values = values
        self._prose = prose
        self._by_language = {language: list(self._templates(language)) for language in LANGUAGES}
        self._all = list(self._templates(None))

    def _templates(self, language: str | None) -> Iterator[Template]:
        for name, table in self._mix.lines.items():
            if language and not {language, ANY_LANGUAGE}.intersection(table.groups):
                continue
            for line in table.lines:
                slots = {slot for slot, _ in _SLOT.findall(line)}
                if "c" in slots and language not in _COMMENT_MARKS:
                    continue
                if language in _STARTS and not line.startswith(_STARTS[language]):
                    continue
                labels = frozenset(_VALUE_SLOTS[slot] for slot in slots if slot in _VALUE_SLOTS)
                yield Template(line, name, labels, table.weight)

    def draw(self, language: str) -> Template | None:
        """A line for a language, for the sake of a label or a hard negative; None has none."""
        rng, shares = self._rng, self._mix.shares
        pool = self._all if rng.random() < shares.other_language else self._by_language[language]
        if rng.random() < shares.negative:
            pool = [template for template in pool if not template.labels]
        else:
            label = rng.choices(list(shares.label), list(shares.label.values()))[0]
            pool = [template for template in pool if label in template.labels]
        if not pool:
            return None
        return rng.choices(pool, [template.weight for template in pool])[0]

    def fill(self, template: Template, language: str) -> Iterator[Piece]:
        """The pieces of a line; identifiers, and mostly a person, recur within it."""
        filled: dict[str, str] = {}
        given: dict[str, Piece] = {}
        person = self._values.person()
        closing = ""
        text = template.text
        position = 0
        table = template.table
        for match in _SLOT.finditer(text):
            slot, count = match.groups()
            yield Piece(text[position : match.start()], template=table)
            position = match.end()
            if slot == "c":
                opening, closing = _COMMENT_MARKS.get(language, ("#", ""))
                yield Piece(opening, template=table)
            elif slot in ("PEM", "PEM_STRING"):
                yield from self._private_key(slot, language, table)
            elif slot in _VALUE_SLOTS:
                if slot in _PER_PERSON and slot in given:
                    if slot == "USERNAME" and self._rng.random() < 0.7:
                        yield given[slot]
                        continue
                    person = self._values.person()
                given[slot] = self._value(slot, person, text, match.span(), table)
                yield given[slot]
            else:
                if slot not in filled or slot in _FRESH or slot in self._mix.slots:
                    filled[slot] = self.plain(slot, language, count)
                yield Piece(filled[slot], template=table)
        yield Piece(text[position:] + closing, template=table)

    def _value(
        self, slot: str, person: Person, text: str, span: tuple[int, int], table: str
    ) -> Piece:
        """A value that can stand where the slot stands: its quotes, or no blanks where none are."""
        before, after = text[: span[0]], text[span[1] :]
        label = _VALUE_SLOTS[slot]
        if slot == "NAME_GIVEN":
            return Piece(person.given, label, "real", table)
        if slot == "NAME_FAMILY":
            return Piece(person.family, label, "real", table)
        kind = "example" if self._rng.random() < self._mix.shares.example else "real"
        if label == "PASSWORD" and before.endswith(":") and after.startswith("@"):
            value = self._values.make(label, kind).text  # in a URL
            return Piece(quote(value, safe="!$*._-~"), label, kind, table)
        for _ in range(_TRIES):
            value = self._values.make(label, kind, person).text
            if stands(value, label, before, after):
                return Piece(value, label, kind, table)
        return Piece(re.sub(r"\W", "", value) or self._values.word(), label, kind, table)

    def _private_key(self, slot: str, language: str, table: str) -> Iterator[Piece]:
        kind = self._rng.choice(_PEM_KINDS)
        joint = "\n" if slot == "PEM" else _JOINTS.get(language, "\\n")
        yield Piece(f"-----BEGIN {kind}PRIVATE KEY-----{joint}", template=table)
        yield Piece(joint.join(self._values.private_key()), "KEY", "real", table)
        yield Piece(f"{joint}-----END {kind}PRIVATE KEY-----", template=table)

    def plain(self, slot: str, language: str, count: str | None = None) -> str:
        """The text of a slot without a label."""
        rng, word = self._rng, self._values.word
        variable = slot.removesuffix("_env") + "_var" if slot.endswith("_env") else slot
        if variable in self._mix.identifiers:
            return self._identifier(variable, language, capitals=slot != variable)
        if slot in self._mix.slots:
            return rng.choice(self._mix.slots[slot])
        size = int(count or _COUNTED.get(slot, 0))
        match slot:
            case "word" | "var":
                return word()
            case "Word":
                return word().capitalize()
            case "host":
                return self._values.host()
            case "version":
                return ".".join(str(rng.randint(0, 30)) for _ in range(rng.choice([2, 3, 3, 3, 4])))
            case "hash":
                return rng.randbytes(rng.choice([16, 20, 20, 32])).hex()
            case "hex":
                return rng.randbytes(size).hex()[:size]
            case "b64":
                return base64.b64encode(rng.randbytes(size)).decode()[:size]
            case "digits":
                return "".join(rng.choices("0123456789", k=size))
            case "hex_rows":
                return self._hex_rows(size)
            case "b64_rows":
                return "\n".join(base64.b64encode(rng.randbytes(48)).decode() for _ in range(size))
            case "uuid":
                digits = rng.randbytes(16).hex()
                return "-".join(
                    (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
                )
            case "year":
                return str(rng.randint(1989, 2026))
            case "year_range":
                first = rng.randint(1989, 2024)
                return f"{first}{rng.choice(['-', '-', ', ', ' - '])}{rng.randint(first + 1, 2026)}"
            case "num":
                return str(rng.choice([rng.randint(1, 99), rng.randint(100, 65535)]))
            case "date":
                y, m, d = rng.randint(1998, 2026), rng.randint(1, 12), rng.randint(1, 28)
                return rng.choice(
                    [
                        f"{y}-{m:02}-{d:02}",
                        f"{y}-{m:02}-{d:02}",
                        f"{d:02}.{m:02}.{y}",
                        f"{y}/{m:02}/{d:02}",
                        f"{y}{m:02}{d:02}",
                    ]
                )
            case "time":
                return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
            case "scheme":
                return rng.choice(
                    "http https ftp mysql postgres postgresql mongodb redis amqp smtp ldap "
                    "socks5 rtsp mongodb+srv sftp git+https".split()
                )
            case "path":
                return "/".join(word() for _ in range(rng.randint(1, 3))) + rng.choice(
                    ["", ".conf", ".py", ".txt", ".log", ".sh"]
                )
            case "comment":
                return rng.choice(self._prose.comments)
            case "credential_comment":
                return rng.choice(self._prose.credential_comments)
            case "phrase":
                return rng.choice(self._prose.phrases)
            case "org":
                stem = " ".join(word().capitalize() for _ in range(rng.randint(1, 2)))
                return stem + rng.choice(_COMPANY_FORMS)
            case "pair":  # a project of its own name
                return "/".join([self.plain("org_handle", "")] * 2)
            case "org_handle":
                return word() + rng.choice(
                    ["", "-org", "hq", "labs", "js", "-project", "-dev", "io"]
                )
        raise ValueError(f"{slot} is not a slot")

    def _hex_rows(self, rows: int) -> str:
        """Rows of octets, as in tables of constants, dumps and fingerprints."""
        rng = self._rng
        form = rng.choice(["0x{:02x}, ", "0x{:02X}, ", "{:02x} ", "{:02X}:", "\\x{:02x}"])
        return "\n".join(
            "".join(form.format(octet) for octet in rng.randbytes(12)).rstrip() for _ in range(rows)
        )

    def _identifier(self, variable: str, language: str, *, capitals: bool) -> str:
        rng = self._rng
        parts = rng.choice(self._mix.identifiers[variable]).split("_")
        if rng.random() < 0.15:
            parts.insert(0, self._values.word())
        if capitals:
            return "_".join(parts).upper()
        if language in _CAMEL and rng.random() < 0.8:
            return parts[0] + "".join(part.capitalize() for part in parts[1:])
        dashes = language in ("YAML", "Properties", "HTML", "XML") and rng.random() < 0.4
        return ("-" if dashes else "_").join(parts)


def stands(value: str, label: str, before: str, after: str) -> bool:
    """Whether a value can stand between two texts of a line without changing what they mean."""
    if "\n" in value:
        return False
    mark = before[-1:]
    if mark and mark in _QUOTES and mark == after[:1]:
        return mark not in value and "\\" not in value
    if label == "IP_ADDRESS" and (before.endswith(("//", "[")) or after[:1] == ":"):
        return (":" in value) == before.endswith("[")
    if label in ("PASSWORD", "KEY", "USERNAME"):  # bare
        return re.fullmatch(r"[^\s\"'`<>#;|&()\\,]+", value) is not None
    return True
