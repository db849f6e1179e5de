"""Words and prose of real code, for made-up values and for lines that hold no entity."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = re.compile(r"(?<![a-zA-Z])[a-z]{4,9}(?![a-zA-Z])")
_TRANSLATION = re.compile(r'(?m)^msgstr "([^"\\@%{}<>\d_:/]{8,120})"$')
# Words in lower case but for the first, so that no name is among them.
_COMMENT = re.compile(
    r"(?m)^[ \t]*(?://+|#+|\*|--|;+|/\*)[ \t]+([A-Za-z][a-z]+(?: [a-z0-9()/,.-]*[a-z)]){3,14})\.?$"
)
_NAMES_SOMEBODY = re.compile(
    r"(?i)\b(?:by|author|copyright|thanks|is [a-z0-9]+\.?$|reported)\b|@|//"
)
_CREDENTIAL = re.compile(
    r"\b(?:user|users|username|login|password|passwords|passphrase|token|secret|account)\b"
)
_TWO_CAPITALISED = re.compile(r"[^\W\d_a-zß-ÿ]\w+ [^\W\d_a-zß-ÿ]\w")
_EVERYWHERE = 0.1
"""Words that stand in a larger share of the texts are keywords."""
_MOST = 20_000
"""Phrases and comments that are kept, of each."""

_COMMENTS = (
    "fix the order of the arguments", "this is not thread safe yet", "handle empty input here",
    "remove this when the old format is gone", "add support for nested lists", "see the docs",
    "the offset was wrong by one", "make this work without a cache", "check the length first",
)  # fmt: skip
_CREDENTIAL_COMMENTS = (
    "the user has to change the password before the next login",
    "prompt for the user name and the password", "users without a login shell are left out",
    "the password must not be empty", "ask the user again when the token has expired",
)  # fmt: skip
_PHRASES = (
    "Das Passwort ist zu kurz", "Benutzername und Kennwort eingeben", "Mot de passe incorrect",
    "Nom d'utilisateur inconnu", "Hasło jest wymagane", "Opcja jest przestarzała",
    "Nieprawidłowa nazwa użytkownika", "Zadejte prosím heslo", "A senha é muito curta",
    "Contraseña no válida", "Wachtwoord vergeten", "Lösenordet är för kort", "Введите пароль",
    "パスワードを入力してください", "请输入密码", "Virheellinen käyttäjätunnus", "Şifre gerekli",
    "A jelszó túl rövid", "Nume de utilizator necunoscut", "Esta opción no se puede cambiar",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prose:
    """Sentences without any entity."""

    phrases: tuple[str, ...] = _PHRASES
    """Of many languages."""
    comments: tuple[str, ...] = _COMMENTS
    """Of comments in English."""
    credential_comments: tuple[str, ...] = _CREDENTIAL_COMMENTS
    """Those that speak of users, logins and passwords."""


def harvest_words(texts: Iterable[str], limit: int = 4000) -> list[str]:
    """The commonest lower-case words of real code, but for those that stand everywhere."""
    counts: Counter[str] = Counter()
    num_texts = 0
    for text in texts:
        num_texts += 1
        # Words in order of the text, not of a set: that differs from process to process.
        counts.update(dict.fromkeys(_WORD.findall(text), 1))
    most = num_texts * _EVERYWHERE
    return [word for word, count in counts.most_common() if count <= most][:limit]


def harvest_prose(texts: Iterable[str]) -> Prose:
    """Comments and translations of real files; where there are few, a handful of our own beside."""
    phrases = dict.fromkeys(_PHRASES)
    comments = dict.fromkeys(_COMMENTS)
    credential_comments = dict.fromkeys(_CREDENTIAL_COMMENTS)
    for text in texts:
        for phrase in _TRANSLATION.findall(text):
            if len(phrases) < _MOST and not _TWO_CAPITALISED.search(phrase):
                phrases[phrase] = None
        for comment in _COMMENT.findall(text):
            if _NAMES_SOMEBODY.search(comment):
                continue
            kind = credential_comments if _CREDENTIAL.search(comment) else comments
            if len(kind) < _MOST:
                kind[comment] = None
    return Prose(tuple(phrases), tuple(comments), tuple(credential_comments))
