"""Labelled examples from real code and made-up values.

A window of a real file is taken; the values at sites where an entity stands (addresses, author and
copyright lines, home folders, assignments to a password) are replaced by made-up ones, and lines
of `synthesis.toml` are written between its own. What was put in is labelled, the rest is not.
"""

import base64
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pii.annotations import Document
from pii.labels import LABELS
from pii.patterns import find_patterns
from pii.spans import Span, resolve_overlaps
from pii.values import ValueMaker
from starencoder.errors import ConfigError, DataError
from starencoder.files import open_whole
from starencoder.languages import language_of
from starencoder.sources import find_source_files, read_source
from starencoder.toml import from_toml, read_toml

_WINDOW_LINES = (18, 45)
_WINDOW_CHARS = 2000

# Words after which a copyright or author field names no person.
_ORGANISATION = re.compile(
    r"\b(?:Inc|Ltd|LLC|GmbH|Corp|Corporation|Company|Co|Foundation|Project|Team|Authors?|Group|"
    r"Contributors?|University|Institute|Labs?|Software|Technologies|Systems|Networks?|Developers?|"
    r"Committee|Consortium|Association|Community|Regents|Limited|Platforms|"
    r"Google|Microsoft|Red Hat|Facebook|Amazon|Oracle|IBM|Intel|Apple|Mozilla|"
    r"Free|Open|The|All|This|License|AG|SA|BV|AB|"
    r"Solutions|Services|Debian|Society|Center|Centre|Laboratory|National|Research|"
    r"Council|Rights)\b"
)
_WORD = r"[A-Z](?:\.|[\w'’-]*[a-zß-ÿ][\w'’-]*)"
_NAME = rf"{_WORD}(?:[ \t]+(?:{_WORD}|[A-Z]\.?(?= )|van|von|de|der|da|del|la|bin)){{1,3}}"

# (label, pattern): group `v` is the value of a site. Passwords, keys and user names are replaced
# only where a literal stands; a name only where it does not look like an organisation.
_SITES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (label, re.compile(pattern))
    for label, pattern in (
        ("NAME", rf"(?P<v>{_NAME})[ \t]*<[^<>\s]{{1,64}}(?:@| at )[^<>\n]{{1,80}}>"),
        ("NAME", rf"(?P<v>{_NAME})[ \t]*\([^()\s]{{1,64}}@[^()\s]{{1,80}}\)"),
        (
            "NAME",
            r"(?i:copyright|©)[ \t]*(?:\([cC]\)|©)?[ \t]*(?:\d{4}[-, \t\d]*)?(?i:by[ \t]+)?"
            rf"(?P<v>{_NAME})",
        ),
        ("NAME", rf"(?:@author|\\author|__author__ = ['\"]|moduleauthor::)[ \t]*(?P<v>{_NAME})"),
        (
            "NAME",
            r"(?:(?i:authors?|maintainer|signed-off-by|reviewed-by)[\"']?[ \t]*[:=]|(?i:written|"
            r"contributed|patch|reported|suggested|developed|created) by|(?i:thanks|credits?) to)"
            rf"[ \t]*[\"']?(?P<v>{_NAME})",
        ),
        ("NAME", rf"(?m)^[ \t]*\[ (?P<v>{_NAME}) \]$"),
        # Change logs and lists of thanks: a name alone on its line, or in parentheses.
        ("NAME", rf"(?m)^[ \t]*(?:[*-][ \t]*)?\*?(?P<v>{_NAME})\*?[ \t]*$"),
        ("NAME", rf"\((?P<v>{_WORD} {_WORD})(?=\)|, )"),
        ("USERNAME", r"(?:TODO|FIXME|XXX)[ \t]?\((?P<v>[a-z][\w.-]{1,30})\)"),
        ("USERNAME", r"/(?:home|Users)/(?P<v>[a-z][\w.-]{1,30})(?=[/\"'\s:])"),
        # Mentions; elsewhere than in a list or after such a word an @ is an array or a decorator.
        ("USERNAME", r"(?:by|[tT]hanks|cc|from) \[?@(?P<v>[A-Za-z][\w-]{1,38})\b(?![./(])"),
        ("USERNAME", r"(?m)^[ \t]*[*-] [^\n@]{0,200}[(\[ ]@(?P<v>[A-Za-z][\w-]{1,38})\b(?![./(])"),
        (
            "USERNAME",
            r"(?i:user_?name|user_?id|login|db_?user)[\"']?[ \t]*(?:=>|[:=])[ \t]*[\"']"
            r"(?P<v>[A-Za-z][\w.-]{1,30})[\"']",
        ),
        (
            "PASSWORD",
            r"(?i:pass(?:word|wd|phrase)?|pwd)[\"']?[ \t]*(?:=>|[:=,])[ \t]*[\"']"
            r"(?P<v>[^\s\"'${}<>%()\[\]]{3,40})[\"']",
        ),
        (
            "USERNAME",
            r"(?:(?:github|gitlab)\.com(?:/users|/repos)?|bitbucket\.org|travis-ci\.(?:org|com)|"
            r"codecov\.io/(?:gh|github)|githubusercontent\.com)[/:](?P<v>[\w-]{2,38})/"
            r"(?P<repository>[\w.-]+)",
        ),
        ("USERNAME", r"(?:\.\w{2,5}|launchpad\.net)/~(?P<v>[\w-]{2,38})/"),
        ("USERNAME", r",v [\d.]+ [\d/-]+ [\d:]+ (?P<v>[a-z][\w-]{1,38}) Exp"),
        (
            # Unquoted, alone on its line, as in configuration files.
            "PASSWORD",
            r"(?im)^[ \t]*[\w.-]*(?:password|passwd|passphrase)[ \t]*[:=][ \t]*"
            r"(?P<v>[^\s\"'${}<>%()\[\],;|&]{4,40})$",
        ),
        (
            "KEY",
            r"(?i:api_?key|token|access_?key|client_?secret|auth_?key|secret(?:_?key)?)[\"']?[ \t]*"
            r"(?:=>|[:=])[ \t]*[\"'](?P<v>[A-Za-z0-9+/_=-]{10,90})[\"']",
        ),
    )
)

_ORGANISATION_HANDLE = "organisation"
"""Beside the labels: an owner's handle that is replaced and gets no label."""
_ORGANISATION_ENDINGS = (
    " Inc.|, Inc.|, Inc|, LLC| Ltd|, Ltd.| GmbH| AG| Corporation| Corp.| Foundation| Project| Team|"
    " Contributors| Authors| Software| Systems| Labs| Technologies| Media| Networks| Group|"
).split("|")

_TABLES = Path(__file__).with_name("synthesis.toml")
_SLOT = re.compile(r"\{([A-Za-z_0-9]+)\}")
# How often a line is written for the sake of each label: most often what real code shows least.
_LABEL_SHARES = {
    "NAME": 0.2, "USERNAME": 0.2, "EMAIL": 0.06, "IP_ADDRESS": 0.08, "KEY": 0.26, "PASSWORD": 0.2,
}  # fmt: skip
_VARIABLES = {
    "password_var": (
        "password passwd pwd pass passphrase db_password user_password root_password "
        "admin_password smtp_password mysql_password bind_password ldap_password "
        "secret_password new_password "
        "keystore_password proxy_password ftp_password auth_pass redis_password"
    ).split(),
    "key_var": (
        "api_key token secret access_token auth_token client_secret secret_key access_key "
        "private_key session_token refresh_token api_secret consumer_secret webhook_secret "
        "encryption_key signing_key bearer_token shared_secret jwt_secret hmac_key apikey app_key"
    ).split(),
    "user_var": (
        "user username user_name login db_user owner account smtp_user bind_user uid nick "
        "admin_user"
    ).split(),
    "host_var": (
        "host server address ip ip_address remote_addr bind_address master gateway peer"
    ).split(),
}
PLAIN_SLOTS = frozenset(
    (
        *_VARIABLES,
        *(name.replace("_var", "_env") for name in _VARIABLES),
        *"word Word var host version hash b64 uuid hex2 year num date scheme path comment".split(),
        *"org pair org_handle".split(),
    )
)
"""Slots of the tables that are filled without a label."""
_CAMEL = frozenset(
    ("JavaScript", "TypeScript", "Vue", "Java", "C#", "Scala", "Kotlin", "Swift", "JSON", "Go")
)
_COMMENTS = (
    "fix the {0} of the {1}", "this is not thread safe yet", "handle empty {0}",
    "{0} should be {1}",
    "remove when {0} is gone", "add support for {0} and {1}", "why is {0} here?",
    "see the {0} docs",
    "the {0} was wrong", "improve {0} handling", "make {0} work with {1}", "check the {0} first",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A real file."""

    package: str
    path: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    label: str | None = None
    kind: str = "real"


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    groups: tuple[str, ...]
    """The languages it is written in; `*` for any."""
    weight: float


@dataclass(frozen=True, slots=True)
class _Table:
    groups: tuple[str, ...]
    lines: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class _Tables:
    tables: Mapping[str, _Table]


class Synthesizer:
    """Makes labelled windows; the same seed and sources give the same windows."""

    def __init__(self, rng: random.Random, values: ValueMaker) -> None:
        """Read the tables of lines; `rng` and `values` are where all randomness comes from.

        Raises:
            ConfigError: A table is not of the form of `_Table`, or a line has a slot that nothing
                fills.
        """
        self._rng = rng
        self._values = values
        self._negative: list[_Line] = []
        self._positive: dict[str, list[_Line]] = {label: [] for label in LABELS}
        data = from_toml(_Tables, {"tables": read_toml(_TABLES)}, str(_TABLES))
        for name, table in data.tables.items():
            for text in table.lines:
                line = _Line(text, table.groups, table.weight)
                slots = {"KEY" if slot == "PEM" else slot for slot in _SLOT.findall(text)}
                for slot in sorted(slots.difference(LABELS, PLAIN_SLOTS)):
                    raise ConfigError(
                        f"{_TABLES}: [{name}]: unknown slot {{{slot}}}; "
                        f"known: {', '.join((*LABELS, 'PEM', *sorted(PLAIN_SLOTS)))}"
                    )
                if name.startswith("none_"):
                    self._negative.append(line)
                for label in slots.intersection(LABELS):
                    self._positive[label].append(line)

    def _draw_label(self) -> str:
        return self._rng.choices(list(_LABEL_SHARES), list(_LABEL_SHARES.values()))[0]

    def window(self, source: Source) -> str:
        """A run of whole lines of a file, now and then its head, where headers stand."""
        lines = source.text.splitlines(keepends=True)
        count = self._rng.randint(*_WINDOW_LINES)
        last = max(0, len(lines) - count)
        first = 0 if self._rng.random() < 0.15 else self._rng.randint(0, last)
        text = ""
        for line in lines[first : first + count]:
            if len(line) > 500 or len(text) + len(line) > _WINDOW_CHARS:
                break
            text += line
        return text

    def example(self, source: Source) -> dict[str, object] | None:
        """One labelled window of a file, or None when the window has no text to speak of."""
        window = self.window(source)
        if len(window) < 150:
            return None
        pieces = self._replace_sites(window)
        for _ in range(self._rng.choice([0, 0, 1, 1, 1, 2, 2, 3, 4])):
            pieces = self._insert_line(pieces, source.language)
        text, spans = "", []
        for piece in pieces:
            if piece.label is not None:
                spans.append(
                    {
                        "start": len(text),
                        "end": len(text) + len(piece.text),
                        "label": piece.label,
                        "kind": piece.kind,
                    }
                )
            text += piece.text
        return {
            "language": source.language,
            "package": source.package,
            "path": source.path,
            "text": text,
            "spans": spans,
        }

    def _replace_sites(self, window: str) -> list[_Piece]:
        sites = [
            span
            for span in find_patterns(window)
            if span.label in ("EMAIL", "IP_ADDRESS", "KEY")
            or span.source == "pattern:url-credentials"
        ]
        for label, pattern in _SITES:
            for match in pattern.finditer(window):
                start, end = match.span("v")
                line = window[window.rfind("\n", 0, start) + 1 : window.find("\n", end) + 1 or None]
                if label == "NAME" and _ORGANISATION.search(match["v"]):
                    continue
                if label == "USERNAME" and match.re.groupindex.get("repository"):
                    owner, repository = match["v"].lower(), match["repository"].lower()
                    # A project under its own name; others may be a person's or an organisation's.
                    if owner in repository or repository in owner:
                        continue
                    if self._rng.random() < 0.4:
                        label = _ORGANISATION_HANDLE
                if label == "KEY" and not _looks_random(match["v"]):
                    continue
                if label == "PASSWORD" and re.search(r"(?i)label|placeholder|title|message", line):
                    continue
                sites.append(Span(start=start, end=end, label=label, source="model"))
        pieces: list[_Piece] = []
        position = 0
        surrogates: dict[tuple[str, str], _Piece] = {}
        for site in resolve_overlaps(sites):
            pieces.append(_Piece(window[position : site.start]))
            old = window[site.start : site.end]
            if (site.label, old) not in surrogates:
                if site.label == "KEY" and self._rng.random() < 0.5:
                    surrogates[site.label, old] = _Piece(old, "KEY")
                elif site.label == _ORGANISATION_HANDLE:
                    surrogates[site.label, old] = _Piece(self._plain("org_handle", ""))
                else:
                    value = self._values.make(site.label)
                    surrogates[site.label, old] = _Piece(value.text, site.label, value.kind)
            pieces.append(surrogates[site.label, old])
            position = site.end
        pieces.append(_Piece(window[position:]))
        return pieces

    def _insert_line(self, pieces: list[_Piece], language: str) -> list[_Piece]:
        """Write one line of the tables after a random line end outside labelled text."""
        rng = self._rng
        negative = rng.random() < 0.25
        lines = self._negative if negative else self._positive[self._draw_label()]
        if rng.random() > 0.1:  # mostly what is written in this language
            lines = [line for line in lines if {language, "*"}.intersection(line.groups)] or lines
        line_text = rng.choices(lines, [line.weight for line in lines])[0].text
        places = [
            (index, match.end())
            for index, piece in enumerate(pieces)
            if piece.label is None
            for match in re.finditer("\n", piece.text)
        ]
        if not places:
            return pieces
        index, at = rng.choice(places)
        before, after = pieces[index].text[:at], pieces[index].text[at:]
        indent = re.match(r"[ \t]*", after)
        margin = indent[0] if indent else ""
        new = [_Piece(before)]
        for line in line_text.split("\n"):
            new += [_Piece(margin), *self._fill(line, language), _Piece("\n")]
        return [*pieces[:index], *new, _Piece(after), *pieces[index + 1 :]]

    def _fill(self, line: str, language: str) -> Iterator[_Piece]:
        """The pieces of a line, its slots filled; identifiers, and mostly user names, recur."""
        filled: dict[str, str] = {}
        labelled: dict[str, _Piece] = {}
        position = 0
        for match in _SLOT.finditer(line):
            yield _Piece(line[position : match.start()])
            position = match.end()
            slot = match[1]
            if slot in LABELS:
                if slot != "USERNAME" or slot not in labelled or self._rng.random() < 0.3:
                    value = self._values.make(slot)
                    labelled[slot] = _Piece(value.text, slot, value.kind)
                yield labelled[slot]
            elif slot == "PEM":
                kind = self._rng.choice(["RSA ", "", "EC ", "OPENSSH "])
                body = "\n".join(self._values.private_key())
                yield _Piece(f"-----BEGIN {kind}PRIVATE KEY-----\n")
                yield _Piece(body, "KEY")
                yield _Piece(f"\n-----END {kind}PRIVATE KEY-----")
            else:
                if slot not in filled or slot in ("word", "Word", "num", "hex2", "year"):
                    filled[slot] = self._plain(slot, language)
                yield _Piece(filled[slot])
        yield _Piece(line[position:])

    def _plain(self, slot: str, language: str) -> str:
        rng, word = self._rng, self._values.word
        base = slot.replace("_env", "_var")
        if base in _VARIABLES:
            parts = rng.choice(_VARIABLES[base]).split("_")
            if rng.random() < 0.15:
                parts.insert(0, word())
            if slot.endswith("_env"):
                return "_".join(parts).upper()
            if language in _CAMEL and rng.random() < 0.8:
                return parts[0] + "".join(part.capitalize() for part in parts[1:])
            return ("-" if language in ("YAML", "Properties") and rng.random() < 0.4 else "_").join(
                parts
            )
        match slot:
            case "word" | "var":
                return word()
            case "host":
                return self._values.host()
            case "version":
                return ".".join(str(rng.randint(0, 30)) for _ in range(3))
            case "hash":
                return (
                    f"{rng.getrandbits(160):040x}"
                    if rng.random() < 0.6
                    else f"{rng.getrandbits(128):032x}"
                )
            case "b64":
                return base64.b64encode(rng.randbytes(64)).decode().rstrip("=")
            case "uuid":
                digits = f"{rng.getrandbits(128):032x}"
                return "-".join(
                    (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
                )
            case "hex2":
                return f"{rng.getrandbits(8):02x}"
            case "year":
                return str(rng.randint(1989, 2026))
            case "num":
                return str(rng.choice([rng.randint(1, 99), rng.randint(100, 65535)]))
            case "date":
                y, m, d = rng.randint(1998, 2026), rng.randint(1, 12), rng.randint(1, 28)
                return rng.choice(
                    [
                        f"{y}-{m:02}-{d:02}",
                        f"{d:02}.{m:02}.{y}",
                        f"{y}/{m:02}/{d:02}",
                        f"{y}{m:02}{d:02}",
                    ]
                )
            case "scheme":
                return rng.choice(
                    "http https ftp mysql postgres postgresql mongodb redis amqp smtp".split()
                )
            case "path":
                return "/".join(word() for _ in range(rng.randint(1, 3))) + rng.choice(
                    ["", ".conf", ".py", ".txt"]
                )
            case "comment":
                return rng.choice(_COMMENTS).format(word(), word())
            case "org":
                stem = " ".join(word().capitalize() for _ in range(rng.randint(1, 2)))
                return stem + rng.choice(_ORGANISATION_ENDINGS)
            case "Word":
                return word().capitalize()
            case "pair":  # a project of its own name
                return "/".join([self._plain("org_handle", "")] * 2)
            case "org_handle":
                return word() + rng.choice(["", "-org", "hq", "labs", "js", "-project"])
        raise ValueError(f"{slot} is not among PLAIN_SLOTS")


def revalue(document: Document, values: ValueMaker, rng: random.Random) -> Document:
    """The same annotated document with fresh values in most of its spans.

    A value that stands several times gets one new value. Long values, values over several lines,
    and most values of kind `example`, whose form says that they are examples, are kept.
    """
    text, spans, position = "", [], 0
    fresh: dict[tuple[str, str], str] = {}
    for span in document.spans:
        old = document.text[span.start : span.end]
        key = (span.label, old)
        if key not in fresh:
            keep = 0.75 if span.kind == "example" else 0.15
            if rng.random() < keep or "\n" in old or len(old) > 100:
                fresh[key] = old
            else:
                fresh[key] = values.make(span.label, span.kind).text
        text += document.text[position : span.start]
        start = len(text)
        text += fresh[key]
        spans.append(replace(span, start=start, end=len(text)))
        position = span.end
    return replace(document, text=text + document.text[position:], spans=tuple(spans))


def harvest_words(texts: Iterable[str], limit: int = 4000) -> list[str]:
    """The commonest lower-case words of real code, but for those that stand everywhere."""
    counts: Counter[str] = Counter()
    num_texts = 0
    for text in texts:
        num_texts += 1
        # Words in order of the text, not of a set: that differs from process to process.
        counts.update(dict.fromkeys(re.findall(r"(?<![a-zA-Z])[a-z]{4,9}(?![a-zA-Z])", text), 1))
    return [word for word, count in counts.most_common() if count <= num_texts / 10][:limit]


def load_sources(
    folder: Path, *, num_chars: int, seed: int, left_out: Counter[str]
) -> list[Source]:
    """Draw real files from a folder that holds one unpacked package per subfolder.

    A language gets a share of the characters that grows with the square root of its number of
    files, and no package more than a quarter of a language. Vendored, minified and very large or
    small files, and those that are not UTF-8, are left out and counted by reason in `left_out`.

    Raises:
        DataError: The folder holds no source file.
    """
    rng = random.Random(seed)
    by_language: dict[str, list[Path]] = defaultdict(list)
    for path in find_source_files(folder, left_out):
        by_language[language_of(path) or ""].append(path)
    shares = {language: len(paths) ** 0.5 for language, paths in by_language.items()}
    sources: list[Source] = []
    for language, paths in sorted(by_language.items()):
        wanted = num_chars * shares[language] / sum(shares.values())
        by_package: Counter[str] = Counter()
        rng.shuffle(paths)
        for path in paths:
            relative = path.relative_to(folder)
            if by_package.total() > wanted:
                break
            if by_package[relative.parts[0]] > wanted / 4:
                continue
            text = read_source(path, left_out)
            if text is None:
                continue
            by_package[relative.parts[0]] += len(text)
            sources.append(Source(relative.parts[0], str(relative), language, text))
    if not sources:
        raise DataError(f"{folder}: no source files; expected one unpacked package per subfolder")
    return sources


def write_examples(
    sources: Sequence[Source], output: Path, *, count: int, seed: int
) -> Counter[str]:
    """Write `count` labelled windows as JSON lines.

    Returns:
        Number of spans by label and kind, and of windows left out by reason.

    Raises:
        ConfigError: The tables of lines have a slot that nothing fills.
        OutputError: `output` cannot be written.
    """
    rng = random.Random(seed)
    synthesizer = Synthesizer(
        rng, ValueMaker(rng, harvest_words(source.text for source in sources))
    )
    # Every language alike up to the square root of its share, or C and Python would be all.
    sizes = Counter(source.language for source in sources)
    weights = [sizes[source.language] ** -0.5 for source in sources]
    stats: Counter[str] = Counter()
    with open_whole(output) as file:
        written = 0
        while written < count:
            example = synthesizer.example(rng.choices(sources, weights)[0])
            if example is None:
                stats["window too short"] += 1
                continue
            spans = example["spans"]
            assert isinstance(spans, list)
            stats.update(f"{span['label']} {span['kind']}" for span in spans)
            record = {"id": f"synthetic-{written:06d}", **example}
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
            written += 1
    return stats


def _looks_random(value: str) -> bool:
    """Digits and letters mixed, as in a token, not an identifier or a sentence."""
    digits = sum(char.isdigit() for char in value)
    return digits >= 3 and any(char.isalpha() for char in value)
