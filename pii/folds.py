"""Parts of annotated documents that share no package, to try on what was not trained on."""

import zlib
from collections import Counter
from collections.abc import Sequence

from pii.annotations import Document


def package_folds(documents: Sequence[Document], folds: int) -> list[int]:
    """The fold of each document: documents of a package are in one, and folds are of like size.

    Windows of a package share names and style, so that one half of them tells of the other.
    Documents without a package are each their own.

    Args:
        documents: The annotated documents.
        folds: How many; with fewer packages than folds, some stay empty.
    """
    names = [document.package or f"\0{document.id}" for document in documents]
    # The largest first, each to the smallest fold so far; equal ones in an order of no meaning.
    sizes = Counter(names)
    totals = [0] * folds
    fold_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], zlib.crc32(name.encode()))):
        fold_of[name] = totals.index(min(totals))
        totals[fold_of[name]] += sizes[name]
    return [fold_of[name] for name in names]
