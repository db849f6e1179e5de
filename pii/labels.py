"""The entity types, their BIO tags and ids, and the names other checkpoints use for them."""

from collections.abc import Iterable, Mapping

from starencoder.errors import ConfigError

LABELS = ("NAME", "USERNAME", "EMAIL", "IP_ADDRESS", "KEY", "PASSWORD")
KINDS = ("real", "example", "licence")
OPERATING_POINTS = ("balanced", "thorough")
"""Best F1 with few false alarms, or little leaked."""

OUTSIDE = "O"
TAGS = (OUTSIDE, *(f"{prefix}-{label}" for label in LABELS for prefix in "BI"))
TAG_IDS: Mapping[str, int] = {tag: index for index, tag in enumerate(TAGS)}

IGNORE_TARGET = -100
"""Target of a token that the loss leaves out (torch's `ignore_index`)."""

_FOREIGN_LABELS: Mapping[str, str | None] = {
    # StarPII's "cannot tell", never redacted there (bigcode-dataset: pii_redaction/utils.py).
    "AMBIGUOUS": None,
}


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels in their fixed order, each once.

    Raises:
        ConfigError: Some are not of `LABELS`; all of them are named.
    """
    wanted = set(labels)
    unknown = sorted(wanted - set(LABELS))
    if unknown:
        named = ", ".join(repr(label) for label in unknown)
        raise ConfigError(
            f"unknown label{'s' * (len(unknown) > 1)} {named}; known: {', '.join(LABELS)}"
        )
    return tuple(label for label in LABELS if label in wanted)


def tag_columns(id2label: Mapping[int, str]) -> tuple[int | None, ...]:
    """For each id of a checkpoint, the index of the same tag in `TAGS`; None where it has none.

    A checkpoint may order its tags otherwise (StarPII does); they are matched by name.

    Raises:
        ConfigError: A tag that is neither ours nor known to mean "none of them".
    """
    columns: list[int | None] = []
    for index in range(len(id2label)):
        if index not in id2label:
            raise ConfigError(f"id2label has {len(id2label)} entries but none for id {index}")
        tag = id2label[index]
        if tag in TAG_IDS:
            columns.append(TAG_IDS[tag])
        elif tag[:2] in ("B-", "I-") and _FOREIGN_LABELS.get(tag[2:], "") is None:
            columns.append(None)
        else:
            raise ConfigError(
                f"id2label maps id {index} to the unknown tag {tag!r}; known: {', '.join(TAGS)}"
            )
    if TAG_IDS[OUTSIDE] not in columns:
        raise ConfigError("id2label has no tag 'O'")
    return tuple(columns)
