"""Made-up values for training: names, handles, addresses, keys and passwords of many forms.

Variety decides what a tagger learns: values drawn from one list or one alphabet teach it the
generator. So every kind of value has several sources, and parts are recombined at random.
"""

import base64
import ipaddress
import random
import string
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from starencoder.errors import MissingExtraError

# Latin script first and often; the others so that no script is unknown.
_LOCALES = {
    "en_US": 10, "en_GB": 8, "de_DE": 8, "fr_FR": 7, "es_ES": 5, "it_IT": 5, "pt_BR": 5,
    "nl_NL": 5, "sv_SE": 4, "da_DK": 3, "no_NO": 3, "fi_FI": 3, "pl_PL": 4, "cs_CZ": 4,
    "hu_HU": 3, "ro_RO": 3, "hr_HR": 3, "tr_TR": 3, "en_IN": 5, "id_ID": 2, "vi_VN": 2,
    "fil_PH": 1, "es_MX": 2, "fr_CA": 2, "de_AT": 2, "et_EE": 1, "lt_LT": 1, "lv_LV": 1,
    "sk_SK": 2, "sl_SI": 2, "ga_IE": 1, "en_NZ": 1, "zu_ZA": 1, "ru_RU": 2, "uk_UA": 1,
    "bg_BG": 1, "el_GR": 1, "zh_CN": 2, "zh_TW": 1, "ja_JP": 2, "ko_KR": 1, "ar_SA": 1,
    "he_IL": 1, "fa_IR": 1, "hi_IN": 1, "th_TH": 1,
}  # fmt: skip
_NAMES_PER_LOCALE = 300

_TLDS = (
    "com com com com org org net net io dev de fr co.uk uk ca au jp cn ru it nl se ch at pl cz "
    "eu in br es info edu ac.uk gov me tv us dk fi no be hu nz kr tw gr ie pt ro sk ua za"
).split()
_MAIL_HOSTS = (
    "gmail.com gmail.com gmail.com googlemail.com yahoo.com hotmail.com outlook.com gmx.de gmx.net "
    "web.de protonmail.com icloud.com mail.ru yandex.ru qq.com 163.com free.fr laposte.net "
    "debian.org ubuntu.com gentoo.org kernel.org apache.org redhat.com google.com microsoft.com "
    "users.sourceforge.net users.noreply.github.com mit.edu berkeley.edu inria.fr"
).split()
_ROLES = "info support security dev devel bugs contact help admin team users announce lists".split()

_LEET = str.maketrans("aeiost", "431057")
_WALKS = (
    "qwerty qwertz asdfgh zxcvbn qazwsx 1qaz2wsx 1q2w3e4r q1w2e3r4 zaq12wsx asdf1234 qwer1234 "
    "poiuyt lkjhgf 123qwe qweasd azerty"
).split()
_WEAK = (
    "letmein dragon monkey sunshine iloveyou trustno1 superman football shadow master princess "
    "welcome hunter television pencil opensesame swordfish rosebud mellon correcthorse sikrit "
    "topsecret supersecret sekrit s3cret geheim motdepasse contrasena hemligt senha tajne"
).split()
_PLACEHOLDER_PASSWORDS = (
    "password passwd secret changeme test foo bar 123456 pass pw mypassword testpass password1 "
    "Password123 your_password YOUR_PASSWORD xxxxxx ******** mysecret 1234 12345678 abc123 "
    "default example dummy new_password oldpassword wrongpassword secret2 userpass adminpw abc"
).split()
_PLACEHOLDER_KEYS = (
    "YOUR_API_KEY your-api-key xxxxxxxx XXXXXXXXXXXXXXXX abc123 my-secret-key secret token "
    "test-token dummy foo 0123456789abcdef API_KEY YOUR_TOKEN_HERE mytoken access_token my_key "
    "<token> insert-key-here abcdef1234567890 test"
).split()
_PLACEHOLDER_USERS = (
    "root admin user test guest foo bar username myuser nobody postgres www-data ubuntu sa "
    "administrator testuser test_user user1 alice bob jdoe johndoe someuser dbuser demo joe me "
    "anonymous nginx mysql git vagrant operator default_user your_username"
).split()
_PLACEHOLDER_NAMES = (
    "John Doe|Jane Doe|Jane Roe|Joe Bloggs|Foo Bar|Alice|Bob|Carol|John Smith|Test User|John|Max "
    "Mustermann|Eve|Mallory|Jane|Your Name"
).split("|")
_PLACEHOLDER_MAILS = (
    "user@example.com foo@bar.com test@test.com jane@example.org admin@localhost me@example.net "
    "you@yourdomain.com john.doe@example.com nobody@invalid foo@example.com a@b.c"
).split()

_BASE64 = string.ascii_letters + string.digits + "+/"
_BASE64URL = string.ascii_letters + string.digits + "-_"
_HEX = "0123456789abcdef"
_KEY_PREFIXES = (
    "sk_ pk_ key- key_ tok_ api- token- s. live_ test_ rk_ xapp- app_ sec_ pat_ usr- acc_ AK SK "
    "whsec_ prod- dev_ access- client- srv_"
).split()


@dataclass(frozen=True, slots=True)
class Value:
    """A made-up value and the kind it would be annotated with."""

    text: str
    kind: str


class ValueMaker:
    """Draws made-up values; the same generator state and word list give the same values."""

    def __init__(self, rng: random.Random, words: Sequence[str]) -> None:
        """Collect the parts.

        Args:
            rng: Where all randomness comes from.
            words: Lower-case words of real code, for passwords, handles and domains.

        Raises:
            MissingExtraError: Faker, of the extra `train`, is not installed.
        """
        try:
            from faker import Faker
        except ImportError as error:
            raise MissingExtraError(
                "faker is not installed; made-up values need it: pip install 'starencoder[train]'"
            ) from error
        self._rng = rng
        self._words = [word for word in words if 3 <= len(word) <= 10] or list(_WEAK)
        self._first: list[list[str]] = []
        self._last: list[list[str]] = []
        self._weights = list(_LOCALES.values())
        for locale in _LOCALES:
            fake = Faker(locale)
            fake.seed_instance(rng.getrandbits(32))
            self._first.append([fake.first_name() for _ in range(_NAMES_PER_LOCALE)])
            self._last.append([fake.last_name() for _ in range(_NAMES_PER_LOCALE)])

    def make(self, label: str, kind: str | None = None) -> Value:
        """A value for a label; of the given kind, or else mostly real."""
        if kind is None:
            kind = "example" if self._rng.random() < 0.2 else "real"
        if kind == "example":
            return Value(self._example(label), "example")
        maker = {
            "NAME": self.name,
            "USERNAME": self.username,
            "EMAIL": self.email,
            "IP_ADDRESS": self.ip_address,
            "KEY": self.key,
            "PASSWORD": self.password,
        }[label]
        return Value(maker(), "real")

    def word(self) -> str:
        """A lower-case word of real code."""
        return self._rng.choice(self._words)

    def _parts(self) -> tuple[str, str]:
        rng = self._rng
        at = rng.choices(range(len(self._first)), self._weights)[0]
        other = at if rng.random() < 0.85 else rng.choices(range(len(self._last)), self._weights)[0]
        return rng.choice(self._first[at]), rng.choice(self._last[other])

    def name(self) -> str:
        """A person's name, in one of the forms that source files hold."""
        rng = self._rng
        first, last = self._parts()
        if rng.random() < 0.03:  # a name that is nobody's in any list: syllables
            last = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
            last = last.capitalize() + rng.choice(["", "n", "s", "r", "sky", "son", "ic"])
        initial = first[0]
        form = rng.random()
        if not first.isascii() and ord(first[0]) > 0x2000:
            return last + first if form < 0.7 else f"{first} {last}"
        if form < 0.62:
            return f"{first} {last}"
        if form < 0.70:
            return f"{first} {rng.choice(string.ascii_uppercase)}. {last}"
        if form < 0.74:
            return f"{initial}. {last}"
        if form < 0.77:
            return f"{initial}.{rng.choice(string.ascii_uppercase)}. {last}"
        if form < 0.80:
            return f"{last}, {first}"
        if form < 0.83:
            return f"{first} {self._parts()[0]} {last}"
        if form < 0.86:
            return f"{first} {last}-{self._parts()[1]}"
        if form < 0.88:
            particle = rng.choice(["van", "von", "de", "van der", "del", "da", "bin", "al"])
            return f"{first} {particle} {last}"
        if form < 0.91:
            return f"{first} {last}".lower()
        if form < 0.93:
            return f"{first} {last.upper()}"
        return first if form < 0.97 else last

    def username(self) -> str:
        """An account handle, from a name, from words, or from neither."""
        rng = self._rng
        first, last = (_ascii(part).lower() or self.word() for part in self._parts())
        word, digits = self.word(), str(rng.choice([rng.randint(0, 99), rng.randint(1960, 2012)]))
        handle = rng.choice(
            [
                first[0] + last, first[0] + last, first + last[0], first, last, first + last,
                f"{first}.{last}", f"{first}_{last}", f"{first}-{last}", first + digits,
                last + digits, f"{first[0]}{last}{digits}", word + digits, word + self.word(),
                f"{word}-{self.word()}", f"{word}{first}", f"{first}{word}", f"the{first}",
                first[:3] + last[:3], last[: rng.randint(3, 6)], first[:2] + last[:4],
                f"{word}_{first}", self._syllables(rng.randint(2, 3)), f"{first}the{word}",
            ]
        )  # fmt: skip
        if rng.random() < 0.15:
            handle = handle.capitalize()
        elif rng.random() < 0.06:
            handle = first.capitalize() + last.capitalize()
        return handle

    def _syllables(self, count: int) -> str:
        rng = self._rng
        return "".join(
            rng.choice("bcdfghjklmnprstvwxyz") + rng.choice(["a", "e", "i", "o", "u", "oo", "y"])
            for _ in range(count)
        ) + rng.choice(["", "", "x", "n", "k", "z", "r"])

    def host(self) -> str:
        """A domain name."""
        rng = self._rng
        stem = rng.choice([
            self.word(), self.word() + self.word(), f"{self.word()}-{self.word()}",
            _ascii(self._parts()[1]).lower() or self.word(), self._syllables(rng.randint(2, 4)),
        ])  # fmt: skip
        sub = rng.choice(["", "", "", "mail.", "www.", "db.", "api.", self.word() + "."])
        return f"{sub}{stem}.{rng.choice(_TLDS)}"

    def email(self) -> str:
        """An e-mail address, now and then written out with "at" and "dot"."""
        rng = self._rng
        local = rng.choice(_ROLES) if rng.random() < 0.08 else self.username()
        if rng.random() < 0.08:
            local += "+" + self.word()
        host = rng.choice(_MAIL_HOSTS) if rng.random() < 0.4 else self.host().removeprefix("www.")
        if rng.random() < 0.1:
            at = rng.choice([" at ", " AT ", " (at) ", "(at)", " [at] ", "[at]", " <at> ", "_at_"])
            dot = rng.choice([" dot ", ".", ".", " DOT ", "[dot]", " (dot) ", " [dot] "])
            return local + at + host.replace(".", dot)
        return f"{local}@{host}"

    def ip_address(self) -> str:
        """A public IPv4 or IPv6 address."""
        rng = self._rng
        while True:
            if rng.random() < 0.75:
                address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(
                    rng.getrandbits(32)
                )
            else:
                groups = [rng.choice(["2001", "2a01", "2a02", "2604", "2607", "240e"])]
                groups += [f"{rng.getrandbits(16):x}" for _ in range(rng.randint(1, 3))]
                groups += ["0"] * (8 - len(groups))
                if rng.random() < 0.5:
                    groups[-1] = f"{rng.getrandbits(rng.choice([4, 8, 16])):x}"
                address = ipaddress.IPv6Address(":".join(groups))
            if address.is_global and not address.is_multicast:
                return str(address)

    def key(self) -> str:
        """A secret key or token: many alphabets and lengths, some with a prefix."""
        rng = self._rng
        form = rng.random()
        if form < 0.22:
            value = "".join(
                rng.choices(_HEX, k=rng.choice([16, 20, 24, 30, 32, 32, 36, 40, 48, 64]))
            )
            return value.upper() if rng.random() < 0.2 else value
        if form < 0.45:
            return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(12, 48)))
        if form < 0.58:
            return base64.b64encode(
                rng.randbytes(rng.choice([12, 16, 20, 24, 32, 32, 48, 64]))
            ).decode()
        if form < 0.68:
            return "".join(rng.choices(_BASE64URL, k=rng.randint(16, 64)))
        if form < 0.76:
            return "".join(
                rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(10, 32))
            )
        if form < 0.88:
            tail = "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(12, 40)))
            return rng.choice(_KEY_PREFIXES) + tail
        if form < 0.93:
            parts = [
                "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(5, 14)))
                for _ in range(rng.randint(2, 4))
            ]
            return rng.choice("-._:|").join(parts)
        if form < 0.95:
            return str(uuid.UUID(int=rng.getrandbits(128)))
        if form < 0.97:
            return "".join(
                rng.choices(string.ascii_uppercase + string.digits, k=rng.randint(12, 32))
            )
        header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
        body = base64.urlsafe_b64encode(rng.randbytes(rng.randint(30, 80))).decode().rstrip("=")
        sign = base64.urlsafe_b64encode(rng.randbytes(32)).decode().rstrip("=")
        return f"{header}.{body}.{sign}"

    def private_key(self) -> list[str]:
        """The base64 lines of a private key's body (random bytes behind a DER-like start)."""
        rng = self._rng
        start = rng.choice(
            ["MIIEpAIBAAKCAQEA", "MIICXgIBAAKBgQ", "MIIEvQIBADANBgkqhkiG", "MHcCAQEEI"]
        )
        body = start + "".join(rng.choices(_BASE64, k=rng.randint(120, 700)))
        width = rng.choice([64, 64, 64, 76])
        return [body[at : at + width] for at in range(0, len(body), width)]

    def password(self) -> str:
        """A password as people write them: words, leetspeak, walks, names, and random strings."""
        rng = self._rng
        word = rng.choice([self.word(), self.word(), rng.choice(_WEAK)])
        if rng.random() < 0.2:
            word = _ascii(rng.choice(self._parts())).lower() or word
        digits = rng.choice(["1", "12", "123", "1234", "42", "99", "!", "1!", "#1", "007", "01",
                             str(rng.randint(0, 9999)), str(rng.randint(1960, 2026))])  # fmt: skip
        form = rng.random()
        if form < 0.16:
            return word + digits
        if form < 0.24:
            return word.capitalize() + digits
        if form < 0.32:
            return word.translate(_LEET) + rng.choice(["", digits])
        if form < 0.38:
            return word + rng.choice(["", "-", "_", ".", "&"]) + self.word()
        if form < 0.44:
            return word
        if form < 0.48:
            return rng.choice(_WALKS) + rng.choice(["", digits])
        if form < 0.54:
            joined = [self.word().capitalize() for _ in range(rng.randint(2, 4))]
            return rng.choice(["", "-", " "]).join(joined) + rng.choice(["", digits])
        if form < 0.58:
            return word + rng.choice(["pass", "pw", "pwd", "Password", "_pass", "secret", "Pass"])
        if form < 0.72:
            return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(6, 20)))
        if form < 0.86:
            marks = rng.choice(["!@#$%^&*", "!#%&*+-=?@_", "-_.!~*", "!@#$%^&*()[]{};:,.<>/?|"])
            alphabet = string.ascii_letters + string.digits + marks * 2
            return "".join(rng.choices(alphabet, k=rng.randint(7, 18)))
        if form < 0.91:
            return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(5, 10)))
        if form < 0.95:
            return "".join(rng.choices(_HEX, k=rng.choice([8, 12, 16, 32])))
        pieces = [self.word()[:4].capitalize(), str(rng.randint(0, 99)), rng.choice("!@#$%&*?-_")]
        rng.shuffle(pieces)
        return "".join(pieces) + self.word()[:3]

    def _example(self, label: str) -> str:
        rng = self._rng
        if label == "IP_ADDRESS":
            ranges = ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "127.0.0.0/8",
                      "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",
                      "169.254.0.0/16", "224.0.0.0/8"]  # fmt: skip
            if rng.random() < 0.2:
                return rng.choice(["::1", "fe80::1", "2001:db8::1", "127.0.0.1", "0.0.0.0"])
            network = ipaddress.IPv4Network(rng.choice(ranges))
            return str(network[rng.randrange(network.num_addresses)])
        if label == "PASSWORD" and rng.random() < 0.1:
            return "$2a$10$" + "".join(rng.choices(_BASE64URL.replace("-", "."), k=53))
        return rng.choice(
            {
                "NAME": _PLACEHOLDER_NAMES,
                "USERNAME": _PLACEHOLDER_USERS,
                "EMAIL": _PLACEHOLDER_MAILS,
                "KEY": _PLACEHOLDER_KEYS,
                "PASSWORD": _PLACEHOLDER_PASSWORDS,
            }[label]
        )


def _ascii(text: str) -> str:
    """The ASCII letters of a word, accents taken off."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join(char for char in plain if char.isalpha())
