from pathlib import Path

import pytest

import pii.tree
from pii.files import FoundFile
from pii.tree import Work, process_files
from pii.workers import run_ordered


@pytest.mark.parametrize("consistent", [False, True])
def test_large_files_are_handed_out_first_and_results_come_in_the_order_of_the_entries(
    consistent, tmp_path, monkeypatch
):
    sizes = {"a": 10, "b": 7_000, "c": 20, "d": 9_000, "e": 0}
    entries = []
    for name, size in sizes.items():
        path = tmp_path / name
        path.write_text("x" * size)
        entries.append(FoundFile(path, Path(name), size))
    handed = []

    def recorded(start, tasks, *, jobs, first):
        handed.append(list(first))
        return run_ordered(start, tasks, jobs=1, first=first)

    monkeypatch.setattr(pii.tree, "run_ordered", recorded)
    work = Work(model="none", consistent=consistent)
    results = list(process_files(work, entries, jobs=2))

    assert [result.path.name for result in results] == list(sizes)
    assert handed == [[3, 1]] * (2 if consistent else 1)
