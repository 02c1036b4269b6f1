"""Small matrices are worked on at once; what comes out is what one after the other gives."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import spectra
from spectra.errors import SpectraError
from spectra.scanning.settings import ScanSettings
from spectra.scanning.side_by_side import side_by_side
from tests.scanning.checkpoints import save


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_tasks_come_first_in_order_in_threads_of_their_own() -> None:
    seen: dict[int, tuple[str, int]] = {}

    def work(task: int) -> int:
        seen[task] = threading.current_thread().name, torch.get_num_threads()
        return -task

    tasks = list(range(12))
    found = list(side_by_side(work, tasks, lambda task: task % 3 > 0))
    small, large = [task for task in tasks if task % 3], [task for task in tasks if not task % 3]
    assert found == [-task for task in (*small, *large)]
    assert all(name.startswith("spectra") and threads == 1 for name, threads in (seen[task] for task in small))
    assert {seen[task] for task in large} == {("MainThread", 2)}


def test_two_tasks_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)
    assert len(list(side_by_side(lambda _: meeting.wait(), [0, 1], lambda _: True))) == 2


def test_an_error_comes_out_and_the_threads_are_given_back() -> None:
    done = []

    def work(task: int) -> int:
        if task == 1:
            raise SpectraError("no")
        done.append(task)
        return task

    results = side_by_side(work, range(100), lambda _: True)
    assert next(results) == 0
    with pytest.raises(SpectraError):
        next(results)
    assert torch.get_num_threads() == 2
    assert len(done) < 100


def test_results_that_nobody_waits_for_give_the_threads_back() -> None:
    results = side_by_side(lambda task: task, range(100), lambda _: True)
    next(results)
    results.close()
    assert torch.get_num_threads() == 2


def test_one_thread_works_alone() -> None:
    torch.set_num_threads(1)
    names = side_by_side(lambda _: threading.current_thread().name, range(3), lambda _: True)
    assert set(names) == {"MainThread"}


def test_only_what_threads_cannot_disturb_is_scanned_side_by_side() -> None:
    plain = ScanSettings()
    assert plain.is_thread_safe
    assert not replace(plain, groups=("intruders", "nulls")).is_thread_safe
    assert not replace(plain, groups=("tails",)).is_thread_safe


def test_a_scan_side_by_side_finds_what_a_scan_in_order_finds(tmp_path: Path) -> None:
    saved = save(tmp_path)
    at_once = spectra.intruders(saved.adapters[1], k=4)
    torch.set_num_threads(1)
    in_order = spectra.intruders(saved.adapters[1], k=4)
    assert [m.name for m in at_once.matrices] == [m.name for m in in_order.matrices]
    assert [m.count for m in at_once.matrices] == [m.count for m in in_order.matrices]
    for one, other in zip(at_once.matrices, in_order.matrices, strict=True):
        for a, b in zip(one.vectors, other.vectors, strict=True):
            assert abs(a.max_cosine - b.max_cosine) < 1e-5
