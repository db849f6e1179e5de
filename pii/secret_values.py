"""Made-up keys and passwords: those of known providers, those people think up, and random ones.

Variety decides what a tagger learns: secrets of one alphabet teach it the generator. Passwords
are words, joined words, leetspeak, walks over the keyboard, products with digits and phrases, as
well as random strings; keys have every usual alphabet, length and grouping.
"""

import base64
import json
import random
import re
import string
import uuid
from collections.abc import Callable, Sequence
from functools import cache

from pii.providers import PREFIX_RULES

_ALNUM = string.ascii_letters + string.digits
_BASE64 = _ALNUM + "+/"
_BASE64URL = _ALNUM + "-_"
_BASE58 = "".join(sorted(set(_ALNUM) - set("0OIl")))
_BASE32 = string.ascii_uppercase + "234567"
_HEX = "0123456789abcdef"
_HOME_ROW_MASH = "asdfghjkl"
_KEY_PREFIXES = (
    "sk_ pk_ key- key_ tok_ api- token- s. live_ test_ rk_ xapp- app_ sec_ pat_ usr- acc_ AK SK "
    "whsec_ prod- dev_ access- client- srv_ proapi_ SESS_ID_AT_ secret- ak- v1. id_"
).split()

_LEET = {
    "a": "4@",
    "e": "3",
    "i": "1!",
    "l": "1",
    "o": "0",
    "s": "5$",
    "t": "7",
    "g": "9",
    "b": "8",
}
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_WALKS = (
    "qwerty qwertz asdfgh zxcvbn qazwsx 1qaz2wsx 1q2w3e4r q1w2e3r4 zaq12wsx asdf1234 qwer1234 "
    "poiuyt lkjhgf 123qwe qweasd azerty 1qazxsw2 !QAZ2wsx qweasdzxc zaq1@WSX 147258369 q2w3e4r5"
).split()
_WEAK = (
    "letmein dragon monkey sunshine iloveyou trustno1 superman football shadow master princess "
    "welcome hunter television pencil opensesame swordfish rosebud mellon correcthorse sikrit "
    "topsecret supersecret sekrit s3cret geheim hemligt tajne crybaby "
    "batman baseball charlie flower freedom ginger hello jordan killer liverpool matrix michelle "
    "pepper pokemon purple queen rabbit secret snoopy soccer starwars summer thunder tigger "
    "whatever zaqxsw "
    "banana cheese cookie orange potato chocolate kitten puppy elephant penguin unicorn biscuit"
).split()
_FOREIGN = (
    "секрет привет любовь солнце mañana señor geheimnis schlüssel grün straße größer déjàvu forêt "
    "élève żółw kůň příliš çiçek güneş πέτρα blåbær øl ångström tükör 秘密"
).split()
# What a password is called, in code and in prose: as a value it would teach that the word is one.
_CALLED = re.compile(r"passw|passphrase|passcode|pwd")
_PRODUCTS = (
    "admin oracle postgres mysql mariadb mongo redis cisco tomcat jboss wildfly jenkins nagios "
    "zabbix grafana kibana elastic rabbit wordpress joomla drupal magento samba vmware ubuntu "
    "debian centos solaris windows server backup router switch camera printer vpn wifi ldap radius "
    "tiger manager system scott weblogic sybase db2 sap hadoop docker kube vault consul git svn"
).split()
_TITLES = (
    "January February March April May June July August September October November December Spring "
    "Summer Autumn Winter Monday Friday London Paris Berlin Madrid Boston Texas Tokyo Sydney"
).split()


class SecretMaker:
    """Draws keys and passwords; the same generator state and words give the same ones."""

    def __init__(self, rng: random.Random, words: Sequence[str], name: Callable[[], str]) -> None:
        """Collect the parts.

        Args:
            rng: Where all randomness comes from.
            words: Lower-case words of real code.
            name: Draws a lower-case name, for passwords made of one.
        """
        self._rng = rng
        self._words = [word for word in words if not _CALLED.search(word)] or ["server"]
        self._name = name

    def _random(self, alphabet: str, low: int, high: int | None = None) -> str:
        count = low if high is None else self._rng.randint(low, high)
        return "".join(self._rng.choices(alphabet, k=count))

    def key(self) -> str:
        """A secret key or token: of a provider, or of one of many alphabets and lengths."""
        rng = self._rng
        form = rng.random()
        if form < 0.14:
            return provider_key(rng)
        if form < 0.30:
            length = rng.choice([16, 20, 24, 30, 32, 32, 32, 36, 40, 40, 48, 64, 64, 96, 128])
            value = self._random(_HEX, length)
            style = rng.random()
            if style < 0.05:  # octets
                return ":".join(value[at : at + 2] for at in range(0, min(length, 40), 2))
            return value.upper() if style < 0.2 else "0x" + value if style < 0.24 else value
        if form < 0.46:
            return self._random(_ALNUM, 10, 64)
        if form < 0.57:
            size = rng.choice([12, 15, 16, 20, 24, 30, 32, 32, 48, 64])
            return base64.b64encode(rng.randbytes(size)).decode()
        if form < 0.65:
            return self._random(_BASE64URL, 16, 64)
        if form < 0.72:
            return self._random(string.ascii_lowercase + string.digits, 10, 40)
        if form < 0.80:
            return rng.choice(_KEY_PREFIXES) + self._random(_ALNUM, 12, 40)
        if form < 0.84:
            parts = [self._random(_ALNUM, 4, 14) for _ in range(rng.randint(2, 5))]
            return rng.choice("-._:|").join(parts)
        if form < 0.87:
            value = str(uuid.UUID(int=rng.getrandbits(128)))
            return rng.choice([value, value, value.upper(), value.replace("-", "")])
        if form < 0.89:
            return self._random(string.ascii_uppercase + string.digits, 12, 32)
        if form < 0.90:
            return self._random(rng.choice([_BASE32, _BASE58]), 16, 52)
        if form < 0.92:
            return self._mashed()
        if form < 0.94:  # basic authorisation
            pair = f"{rng.choice(self._words)}:{self.password()}"
            return base64.b64encode(pair.encode()).decode()
        if form < 0.95:
            return self._random(_ALNUM + "!@#$%^&*(-_=+)", 32, 50).replace("'", "")
        if form < 0.96:  # words and random parts, as people name a test token
            return (
                f"{rng.choice(self._words)}-{self._random(_ALNUM, 8, 20)}-{rng.choice(self._words)}"
            )
        return self._jwt()

    def _mashed(self) -> str:
        """Keys hit at random by two hands: `kkk9d7dh3k39sjv7`, `89h3f98hbwf987h3f`."""
        rng = self._rng
        few = rng.sample(_HOME_ROW_MASH + "weruionvb", 7)
        parts = []
        for _ in range(rng.randint(4, 8)):
            parts.append("".join(rng.choices(few, k=rng.randint(1, 4))))
            parts.append("".join(rng.choices("23789", k=rng.randint(0, 3))))
        return "".join(parts)[: rng.randint(10, 30)] + rng.choice("0123456789")

    def _jwt(self) -> str:
        rng = self._rng
        algorithm = rng.choice(["HS256", "HS256", "RS256", "ES256", "HS512", "none"])
        header = {"alg": algorithm, "typ": "JWT"}
        if rng.random() < 0.3:
            header = {"typ": "JWT", "alg": algorithm, "kid": self._random(_HEX, 8)}
        claims = {
            "sub": str(rng.randint(1, 10**9)),
            "iat": rng.randint(1_300_000_000, 1_800_000_000),
            rng.choice(self._words): rng.choice(self._words),
        }
        parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
        encoded = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts]
        signature = base64.urlsafe_b64encode(rng.randbytes(rng.choice([32, 64, 128]))).decode()
        return ".".join([*encoded, signature.rstrip("=")])

    def private_key(self) -> list[str]:
        """The base64 lines of a private key's body (random bytes behind a DER-like start)."""
        rng = self._rng
        start = rng.choice(
            ["MIIEpAIBAAKCAQEA", "MIICXgIBAAKBgQ", "MIIEvQIBADANBgkqhkiG", "MHcCAQEEI",
             "b3BlbnNzaC1rZXktdjEAAAA", "MIGHAgEAMBMGByqGSM49", "MIIJKQIBAAKCAgEA"]
        )  # fmt: skip
        body = start + self._random(_BASE64, 120, 700) + rng.choice(["", "=", "=="])
        width = rng.choice([64, 64, 64, 70, 76])
        return [body[at : at + width] for at in range(0, len(body), width)]

    def password(self) -> str:
        """A password as people write them: words, leetspeak, walks, names, and random strings."""
        rng = self._rng
        word = rng.choice(
            [*(rng.choice(self._words) for _ in range(3)), rng.choice(_WEAK), rng.choice(_WEAK),
             rng.choice(_PRODUCTS)]
        )  # fmt: skip
        if rng.random() < 0.15:
            word = self._name()
        other = rng.choice(self._words)
        form = rng.random()
        if form < 0.14:
            return self._cased(word) + self._tail()
        if form < 0.25:
            changed = self.leet(word)
            return changed + (self._tail() if changed == word else rng.choice(["", self._tail()]))
        if form < 0.32:
            joint = rng.choice(["", "", "-", "_", ".", "&", "@", "+", "/", "#"])
            return (
                self._cased(word) + joint + self._cased(other) + rng.choice(["", "", self._tail()])
            )
        if form < 0.38:  # a word alone is rare: code is full of words that are no password
            return word if rng.random() < 0.2 else self._cased(word) + self._tail()
        if form < 0.42:
            return rng.choice([rng.choice(_WALKS), self._walk()]) + rng.choice(["", self._tail()])
        if form < 0.47:
            product = rng.choice([*_PRODUCTS, word])
            return self._cased(product) + rng.choice(["", "-", "_", "@", "#"]) + self._tail()
        if form < 0.51:
            title = rng.choice(_TITLES)
            return (
                title
                + rng.choice(["", "@", "!", "-"])
                + str(rng.randint(1998, 2026))
                + (rng.choice(["", "", "!", "#", "$"]))
            )
        if form < 0.56:
            count = rng.randint(3, 6)
            parts = [rng.choice(self._words) for _ in range(count)]
            return rng.choice([" ", " ", "-", "_", ".", ""]).join(
                [part.capitalize() for part in parts] if rng.random() < 0.4 else parts
            )
        if form < 0.61:
            suffix = [
                "pass",
                "pw",
                "pwd",
                "Password",
                "_pass",
                "secret",
                "Pass",
                "passwd",
                "PASSWD2",
            ]
            return word + rng.choice(suffix) + rng.choice(["", "", "1", "!"])
        if form < 0.63:
            return word * 2 if len(word) < 5 else word[::-1]
        if form < 0.65:
            return rng.choice(_FOREIGN) + self._tail()
        if form < 0.67:
            return f"This-is-my-{other}-{rng.randint(1, 99)}{rng.choice('!?.')}"
        if form < 0.78:
            return self._random(_ALNUM, 6, 20)
        if form < 0.88:
            marks = rng.choice(["!@#$%^&*", "!#%&*+-=?@_", "-_.!~*", "!@#$%^&*()[]{};:,.<>/?|"])
            return self._random(_ALNUM + marks * 2, 7, 20)
        if form < 0.91:
            return self._random(string.ascii_lowercase, 5, 11)
        if form < 0.93:
            return self._random(string.digits, 4, 10)
        if form < 0.96:
            tail = rng.choice(["", "", "", "#!1", "!", "-Aa1"])
            return self._random(_HEX, rng.choice([8, 12, 16, 24, 32])) + tail
        pieces = [word[:5].capitalize(), str(rng.randint(0, 99)), rng.choice("!@#$%&*?-_")]
        rng.shuffle(pieces)
        return "".join(pieces) + other[:4]

    def _tail(self) -> str:
        rng = self._rng
        return rng.choice(
            ["1", "12", "123", "1234", "12345", "42", "99", "!", "1!", "123!", "#1", "007", "01",
             "0", "2", "$$", "!!", "_1", "-1", "@1", "4242", "321", str(rng.randint(0, 9999)),
             str(rng.randint(1960, 2026)), f"{rng.randint(0, 99)}{rng.choice('!@#$%?*')}"]
        )  # fmt: skip

    def _cased(self, word: str) -> str:
        style = self._rng.random()
        if style < 0.6:
            return word
        return word.upper() if style > 0.95 else word.capitalize()

    def leet(self, word: str) -> str:
        """A word, some of whose letters are figures or marks."""
        rng = self._rng
        share = rng.choice([0.4, 0.7, 1.0])
        changed = [
            rng.choice(_LEET[char]) if char in _LEET and rng.random() < share else char
            for char in word
        ]
        if rng.random() < 0.4:
            changed = [char.upper() if rng.random() < 0.25 else char for char in changed]
        return "".join(changed)

    def _walk(self) -> str:
        """Neighbouring keys: along a row, or down the columns."""
        rng = self._rng
        if rng.random() < 0.5:
            row = rng.choice(_ROWS)
            length = rng.randint(4, 7)
            start = rng.randint(0, len(row) - length)
            return row[start : start + length][:: rng.choice([1, 1, -1])]
        first = rng.randint(0, 4)
        columns = ["".join(row[at] for row in _ROWS) for at in range(first, first + 2)]
        return "".join(column[:: rng.choice([1, -1])] for column in columns)


def provider_key(rng: random.Random) -> str:
    """A key of the form of one of the providers that are known by their prefix."""
    rule = rng.choice([rule for rule in PREFIX_RULES if "(?" not in rule.regex.replace("(?:", "")])
    return random_match(rule.regex, rng)


def random_match(regex: str, rng: random.Random) -> str:
    """A string that the whole of a regular expression matches.

    Known are literals, classes, groups, `|` and counts in braces or `?`: what `pii.providers` is
    written in. Of a count, at most 40 more than the least are drawn.

    Raises:
        ValueError: The expression has something else.
    """
    return _compile(regex)(rng)


_Draw = Callable[[random.Random], str]


@cache
def _compile(regex: str) -> _Draw:
    draw, end = _alternatives(regex, 0)
    if end != len(regex):
        raise ValueError(f"not understood from character {end} on")
    return draw


def _alternatives(regex: str, at: int) -> tuple[_Draw, int]:
    branches: list[list[_Draw]] = [[]]
    while at < len(regex) and regex[at] != ")":
        if regex[at] == "|":
            branches.append([])
            at += 1
            continue
        draw, at = _atom(regex, at)
        low, high, at = _count(regex, at)
        branches[-1].append(_repeated(draw, low, high))
    return lambda rng: "".join(draw(rng) for draw in rng.choice(branches)), at


def _repeated(draw: _Draw, low: int, high: int) -> _Draw:
    return lambda rng: "".join(draw(rng) for _ in range(rng.randint(low, min(high, low + 40))))


def _atom(regex: str, at: int) -> tuple[_Draw, int]:
    if regex.startswith("(?:", at):
        draw, at = _alternatives(regex, at + 3)
        return draw, at + 1
    if regex[at] == "[":
        end = regex.index("]", at)
        chars = _class(regex[at + 1 : end])
        return lambda rng: rng.choice(chars), end + 1
    if regex[at] == "\\":
        at += 1
    elif regex[at] in "(*+.^$?{":
        raise ValueError(f"not understood at character {at}")
    literal = regex[at]
    return lambda rng: literal, at + 1


def _class(body: str) -> str:
    chars = ""
    while body:
        if len(body) > 2 and body[1] == "-":
            chars += "".join(map(chr, range(ord(body[0]), ord(body[2]) + 1)))
            body = body[3:]
        else:
            chars += body[0]
            body = body[1:]
    return chars


def _count(regex: str, at: int) -> tuple[int, int, int]:
    if regex[at : at + 1] == "?":
        return 0, 1, at + 1
    match = re.compile(r"\{(\d+)(?:,(\d+))?\}").match(regex, at)
    if match is None:
        return 1, 1, at
    return int(match[1]), int(match[2] or match[1]), match.end()
