"""Made-up values for training: one maker for every label, of either kind."""

import ipaddress
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from pii.people import People, Person, ascii_letters
from pii.secret_values import SecretMaker

_TLDS = (
    "com com com com org org net net io dev de fr co.uk uk ca au jp cn ru it nl se ch at pl cz "
    "eu in br es info edu ac.uk gov me tv us dk fi no be hu nz kr tw gr ie pt ro sk ua za app ai "
    "sh co xyz com.br com.au co.jp com.cn co.nz co.za ac.jp edu.au gov.uk si lt lv ee hr rs tr"
).split()
_MAIL_HOSTS = (
    "gmail.com gmail.com gmail.com googlemail.com yahoo.com hotmail.com outlook.com gmx.de gmx.net "
    "web.de protonmail.com icloud.com mail.ru yandex.ru qq.com 163.com free.fr laposte.net "
    "debian.org ubuntu.com gentoo.org kernel.org apache.org redhat.com google.com microsoft.com "
    "users.sourceforge.net users.noreply.github.com mit.edu berkeley.edu inria.fr live.com me.com "
    "fastmail.fm posteo.de mailbox.org wp.pl o2.pl seznam.cz naver.com 126.com orange.fr libero.it "
    "t-online.de comcast.net aol.com sina.com yandex.com abv.bg ukr.net uol.com.br terra.com.br"
).split()
_ROLES = (
    "info support security dev devel bugs contact help admin team users announce lists bug-report "
    "hostmaster webmaster postmaster abuse sales press maintainers opensource legal noreply root"
).split()

_PLACEHOLDER_PASSWORDS = (
    "password passwd secret changeme test foo bar 123456 pass pw mypassword testpass password1 "
    "Password123 your_password YOUR_PASSWORD xxxxxx ******** mysecret 1234 12345678 abc123 "
    "default example dummy new_password oldpassword wrongpassword secret2 userpass adminpw abc "
    "<password> ${PASSWORD} %s {password} PASSWORD p@ssw0rd passw0rd hunter2 change-me REDACTED "
    "your-password-here [password] $PASS {{password}} invalid bad_password pass123 password100"
).split()
_PLACEHOLDER_KEYS = (
    "YOUR_API_KEY your-api-key xxxxxxxx XXXXXXXXXXXXXXXX abc123 my-secret-key secret token "
    "test-token dummy foo 0123456789abcdef API_KEY YOUR_TOKEN_HERE mytoken access_token my_key "
    "<token> insert-key-here abcdef1234567890 test sk-xxxxxxxx <your-token> REPLACE_ME 12345 "
    "fake-key my-client-secret ${TOKEN} some-random-string your_secret_key changeme abcdefgh"
).split()
_PLACEHOLDER_USERS = (
    "root admin user test guest foo bar username myuser nobody postgres www-data ubuntu sa "
    "administrator testuser test_user user1 alice bob jdoe johndoe someuser dbuser demo joe me "
    "anonymous nginx mysql git vagrant operator default_user your_username tomcat oracle deploy"
).split()
_PLACEHOLDER_NAMES = (
    "John Doe|Jane Doe|Jane Roe|Joe Bloggs|Foo Bar|Alice|Bob|Carol|John Smith|Test User|John|Max "
    "Mustermann|Eve|Mallory|Jane|Your Name|Firstname Lastname|Juan Pérez|Jan Novák|Erika Mustermann"
).split("|")
_PLACEHOLDER_MAILS = (
    "user@example.com foo@bar.com test@test.com jane@example.org admin@localhost me@example.net "
    "you@yourdomain.com john.doe@example.com nobody@invalid foo@example.com a@b.c your@email.com "
    "email@domain.com name@company.com someone@example.org test@localhost root@example.com"
).split()
_EXAMPLE_RANGES = (
    "10.0.0.0/8", "192.168.0.0/16", "192.168.0.0/24", "172.16.0.0/12", "127.0.0.0/8",
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "169.254.0.0/16", "224.0.0.0/8",
)  # fmt: skip
_EXAMPLE_ADDRESSES = (
    "::1 fe80::1 2001:db8::1 127.0.0.1 127.0.0.1 0.0.0.0 255.255.255.0 255.255.255.255 8.8.8.8 "
    "1.1.1.1 1.2.3.4 ff02::1 fd00::1 ::ffff:127.0.0.1 10.0.0.1 192.168.1.1"
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
        self._rng = rng
        self._words = [word for word in words if 3 <= len(word) <= 10] or ["server", "buffer"]
        self._people = People(rng, self._words)
        self._secrets = SecretMaker(rng, self._words, self._plain_name)
        self.key = self._secrets.key
        self.password = self._secrets.password
        self.private_key = self._secrets.private_key
        self.person = self._people.person
        self.name = self._people.name
        self.username = self._people.handle

    def make(self, label: str, kind: str | None = None, person: Person | None = None) -> Value:
        """A value for a label; of the given kind, or else mostly real.

        Args:
            label: One of `pii.labels.LABELS`.
            kind: `real` or `example`; None draws one.
            person: Whose name, handle or address it is; None draws one.
        """
        if kind is None:
            kind = "example" if self._rng.random() < 0.2 else "real"
        if kind == "example":
            return Value(self._example(label), "example")
        match label:
            case "NAME":
                text = self.name(person)
            case "USERNAME":
                text = self.username(person)
            case "EMAIL":
                text = self.email(person)
            case "IP_ADDRESS":
                text = self.ip_address()
            case "KEY":
                text = self.key()
            case "PASSWORD":
                text = self.password()
            case _:
                raise ValueError(f"{label} is not among LABELS")
        return Value(text, "real")

    def word(self) -> str:
        """A lower-case word of real code."""
        return self._rng.choice(self._words)

    def _plain_name(self) -> str:
        person = self.person()
        part = self._rng.choice([person.given, person.family])
        return ascii_letters(part).lower() or self.word()

    def host(self) -> str:
        """A domain name."""
        rng = self._rng
        stem = rng.choice([
            self.word(), self.word() + self.word(), f"{self.word()}-{self.word()}",
            self._plain_name(), self._people.syllables(rng.randint(2, 4)),
            f"{self._plain_name()}{rng.choice(['.home', '-it', 'soft', 'net', 'web', 's'])}",
            f"{self.word()}{rng.randint(1, 99)}",
        ])  # fmt: skip
        sub = rng.choice(["", "", "", "mail.", "www.", "db.", "api.", self.word() + "."])
        return f"{sub}{stem}.{rng.choice(_TLDS)}"

    def email(self, person: Person | None = None) -> str:
        """An e-mail address, now and then written out with "at" and "dot"."""
        rng = self._rng
        if rng.random() < 0.08:
            local = rng.choice(_ROLES)
            if rng.random() < 0.4:
                local = f"{self.word()}-{local}"
        else:
            local = self.username(person)
        if rng.random() < 0.06:
            local += "+" + self.word()
        elif rng.random() < 0.04:
            local = f"{rng.randint(1000, 99_999_999)}+{local}"
        host = rng.choice(_MAIL_HOSTS) if rng.random() < 0.4 else self.host().removeprefix("www.")
        if rng.random() < 0.1:
            at = rng.choice([" at ", " AT ", " (at) ", "(at)", " [at] ", "[at]", " <at> ", "_at_",
                             "{at}", " @ ", "-at-", "@@", " (a) "])  # fmt: skip
            dot = rng.choice([" dot ", ".", ".", " DOT ", "[dot]", " (dot) ", " [dot] ", "(.)"])
            return local + at + host.replace(".", dot)
        if rng.random() < 0.02:
            host = f"[{self.ip_address()}]" if rng.random() < 0.3 else host.upper()
        return f"{local}@{host}"

    def ip_address(self) -> str:
        """A public IPv4 or IPv6 address."""
        rng = self._rng
        while True:
            if rng.random() < 0.72:
                address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(
                    rng.getrandbits(32)
                )
            else:
                groups = [rng.choice(["2001", "2a01", "2a02", "2604", "2607", "240e", "2400"])]
                groups += [f"{rng.getrandbits(16):x}" for _ in range(rng.randint(1, 7))]
                groups += ["0"] * (8 - len(groups))
                if rng.random() < 0.5:
                    groups[-1] = f"{rng.getrandbits(rng.choice([4, 8, 16])):x}"
                address = ipaddress.IPv6Address(":".join(groups))
            if not address.is_global or address.is_multicast:
                continue
            if address.version == 4:
                return str(address) if rng.random() < 0.98 else f"::ffff:{address}"
            style = rng.random()
            if style < 0.75:
                return str(address)
            return address.exploded if style < 0.9 else str(address).upper()

    def _example(self, label: str) -> str:
        rng = self._rng
        if label == "IP_ADDRESS":
            if rng.random() < 0.35:
                return rng.choice(_EXAMPLE_ADDRESSES)
            network = ipaddress.IPv4Network(rng.choice(_EXAMPLE_RANGES))
            return str(network[rng.randrange(network.num_addresses)])
        if label == "PASSWORD" and rng.random() < 0.15:
            return self._password_hash()
        if label == "EMAIL" and rng.random() < 0.4:
            domain = rng.choice(["example.com", "example.org", "test.invalid", "foo.test"])
            return f"{self.word()}@{domain}"
        return rng.choice(
            {
                "NAME": _PLACEHOLDER_NAMES,
                "USERNAME": _PLACEHOLDER_USERS,
                "EMAIL": _PLACEHOLDER_MAILS,
                "KEY": _PLACEHOLDER_KEYS,
                "PASSWORD": _PLACEHOLDER_PASSWORDS,
            }[label]
        )

    def _password_hash(self) -> str:
        rng = self._rng
        alphabet = string.ascii_letters + string.digits + "./"
        scheme, length = rng.choice(
            [("$2a$10$", 53), ("$2b$12$", 53), ("$1$", 31), ("$6$", 95), ("{SSHA}", 32),
             ("$apr1$", 31), ("pbkdf2_sha256$260000$", 60), ("$argon2id$v=19$", 60), ("md5", 32)]
        )  # fmt: skip
        if scheme == "md5":
            return f"md5{rng.getrandbits(128):032x}"
        return scheme + "".join(rng.choices(alphabet, k=length))
