from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pii.annotations import Document
from pii.folds import package_folds


def documents(packages):
    return [
        Document(id=str(i), language="C", package=name, path="", text="x", spans=())
        for i, name in enumerate(packages)
    ]


names = st.lists(st.sampled_from(["", *"abcdefg"]), max_size=60)


@given(packages=names, folds=st.integers(2, 6))
def test_a_package_is_in_one_fold_and_folds_differ_by_no_more_than_a_package(packages, folds):
    found = package_folds(documents(packages), folds)
    assert len(found) == len(packages)
    named = {(package, fold) for package, fold in zip(packages, found, strict=True) if package}
    assert len(named) == len({package for package, _ in named})
    sizes = [Counter(found)[fold] for fold in range(folds)]
    largest = max([*Counter(filter(None, packages)).values(), 1])
    assert max(sizes) - min(sizes) <= largest


@given(packages=names, folds=st.integers(2, 6), order=st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(packages, folds, order):
    given_documents = documents(packages)
    first = dict(
        zip((d.id for d in given_documents), package_folds(given_documents, folds), strict=True)
    )
    order.shuffle(given_documents)
    again = package_folds(given_documents, folds)
    assert again == [first[document.id] for document in given_documents]
