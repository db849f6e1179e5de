"""Words that placeholders are spelled from."""

_LONGEST_WORD = 16


def spelled_from(value: str, core: frozenset[str], filler: frozenset[str]) -> bool:
    """Whether a value is nothing but these words, glued or separated, at least one of the core.

    `my_secret_password` and `testpass` are; `radpass` is not. Trailing digits are not looked at.
    """
    value = value.lower().rstrip("0123456789")
    if not value or len(value) > 80:
        return False
    reached: list[bool | None] = [None] * (len(value) + 1)  # None: no; True: with a core word
    reached[0] = False
    for at in range(len(value)):
        with_core = reached[at]
        if with_core is None:
            continue
        if value[at] in "-_ .":
            reached[at + 1] = reached[at + 1] or with_core
        for end in range(at + 1, min(len(value), at + _LONGEST_WORD) + 1):
            word = value[at:end]
            if word in core:
                reached[end] = True
            elif word in filler:
                reached[end] = reached[end] or with_core
    return bool(reached[-1])


FILLER = frozenset(
    """my your our the some any an this that test testing new old bad wrong good valid invalid the
    default fallback example sample dummy fake super very really top strong secure insecure not
    insert enter change changed plain another other correct incorrect no non here value for with to
    of in is goes replace please it put add delete create update long short custom random db
    database github gitlab docker mysql mariadb postgres postgresql mongo mongodb redis ldap smtp
    imap ftp sftp ssh pma auth oauth oauth2 master admin root user users login account service app
    application api aws gcp azure google slack web http https host remote local first last full
    email mail unit mock mocked stub regular simple basic hidden real actual existing
    unknown""".split()
)
"""Words that turn no placeholder into a value."""

KEY_CORE = frozenset(
    """key keys secret secrets token tokens apikey password session value string id verifier access
    refresh bearer client code private public credential credentials webhook hash salt
    signature""".split()
)
"""Words of a key's name, of which one makes a placeholder; of a user name's too."""
