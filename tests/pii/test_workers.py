import functools
import operator
import os
import signal

import pytest

from pii.workers import Crash, run_ordered, run_unordered
from starencoder.errors import ConfigError

# What runs in a worker is pickled by name, so it comes from the standard library.
DOUBLE = functools.partial(functools.partial, operator.mul, 2)


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_tasks(jobs):
    tasks = list(range(50))
    assert list(run_ordered(DOUBLE, tasks, jobs=jobs)) == [2 * task for task in tasks]


class Handed(list):
    def __init__(self, tasks):
        super().__init__(tasks)
        self.order = []

    def __getitem__(self, index):
        self.order.append(index)
        return super().__getitem__(index)


def test_tasks_that_are_to_go_first_do_and_results_still_come_in_order():
    tasks = Handed(range(6))
    results = list(run_ordered(DOUBLE, tasks, jobs=2, first=[4, 1]))
    assert results == [0, 2, 4, 6, 8, 10]
    assert tasks.order == [4, 1, 0, 2, 3, 5]


def test_without_an_order_a_result_need_not_wait_for_an_earlier_task():
    start = functools.partial(functools.partial, eval)
    tasks = ["__import__('time').sleep(1)", "1", "2"]
    assert list(run_unordered(start, tasks, jobs=2)) == [(1, 1), (2, 2), (0, None)]
    assert list(run_unordered(start, ["1", "2"], jobs=1)) == [(0, 1), (1, 2)]


def test_what_was_finished_before_a_failure_has_come():
    start = functools.partial(functools.partial, eval)
    failing = "(_ for _ in ()).throw(__import__('starencoder.errors').errors.ConfigError('a: b'))"
    results = run_unordered(start, ["__import__('time').sleep(1)", "1", "2", failing], jobs=2)
    assert [next(results) for _ in range(2)] == [(1, 1), (2, 2)]
    with pytest.raises(ConfigError, match=r"^a: b$"):
        list(results)


def test_more_jobs_than_tasks_and_no_tasks_at_all_are_fine():
    assert list(run_ordered(DOUBLE, [4], jobs=2)) == [8]
    assert list(run_ordered(DOUBLE, [], jobs=2)) == []


def test_a_worker_that_dies_costs_the_one_task_it_was_at():
    tasks = ["1", "__import__('os')._exit(7)", "2", "3"]
    start = functools.partial(functools.partial, eval)
    assert list(run_ordered(start, tasks, jobs=2)) == [1, Crash.of_exit(7), 2, 3]


def test_the_signal_that_killed_a_worker_is_named():
    assert "SIGKILL, perhaps out of memory" in Crash.of_exit(-9).reason
    assert "code 7" in Crash.of_exit(7).reason


def test_an_error_of_ours_passes_from_a_worker_as_it_is():
    start = functools.partial(functools.partial, raise_it)
    tasks = [ConfigError("where: what"), None]
    with pytest.raises(ConfigError, match=r"^where: what$"):
        list(run_ordered(start, tasks, jobs=1))
    tasks = ["(_ for _ in ()).throw(__import__('starencoder.errors').errors.ConfigError('a: b'))"]
    with pytest.raises(ConfigError, match=r"^a: b$"):
        list(run_ordered(functools.partial(functools.partial, eval), tasks * 2, jobs=2))


def raise_it(error):
    raise error


@pytest.mark.parametrize("jobs", [1, 2])
def test_any_other_error_costs_the_one_task_and_quotes_nothing_of_it(jobs):
    start = functools.partial(functools.partial, eval)
    one, crash, two = run_ordered(start, ["1", "int('hunter42')", "2"], jobs=jobs)
    assert (one, two) == (1, 2)
    assert isinstance(crash, Crash)
    assert "ValueError\n" in crash.reason
    assert "in handled" in crash.reason
    assert "hunter42" not in crash.reason


def test_a_handler_that_cannot_be_made_ends_the_run():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(run_ordered(functools.partial(eval, "1/0"), ["1", "2"], jobs=2))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
@pytest.mark.parametrize(("times", "enough"), [(1, True), (99, False)])
def test_workers_that_are_killed_while_they_start_are_replaced_a_few_times(tmp_path, times, enough):
    for index in range(times):
        (tmp_path / str(index)).touch()
    marks = f"__import__('pathlib').Path({str(tmp_path)!r}).iterdir()"
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    code = f"[m.unlink(missing_ok=True) or {kill} for m in {marks}][:0] or eval"
    results = run_ordered(functools.partial(eval, code), ["1", "2"], jobs=2)
    if enough:
        assert list(results) == [1, 2]
    else:
        with pytest.raises(RuntimeError, match="could not start: code -9"):
            list(results)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_an_abandoned_run_leaves_no_worker_behind():
    start = functools.partial(functools.partial, eval)
    results = run_ordered(
        start, ["__import__('os').getpid()", "__import__('time').sleep(60)"], jobs=2
    )
    pid = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
