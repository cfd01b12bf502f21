"""The benchmark of trials on a GPU: their processes, where what they train is replaced by nothing."""

import multiprocessing
import os

import gpu
import pytest


@pytest.fixture
def measured(monkeypatch):
    """Measures packed trials that do something else."""
    # Forked processes have what is replaced here.
    monkeypatch.setattr(gpu.multiprocessing, "get_context", lambda kind: multiprocessing.get_context("fork"))

    def measured(trial, packed):
        monkeypatch.setattr(gpu, "trial", trial)
        return gpu.measure("wrn-10-1/resnet8", "recorded", packed, 128, 3, "")

    yield measured
    # This process would wait for those of a benchmark that has waited for ever.
    for child in multiprocessing.active_children():
        child.kill()


def begins_with_the_others(pair, variant, count, epochs, directory, barrier, results):
    barrier.wait()
    results.put([1.0, 5.0, 2.0])


def test_the_speeds_of_packed_trials_add_up(measured):
    assert measured(begins_with_the_others, packed=2) == 4.0


@pytest.mark.timeout(60)
def test_a_trial_that_dies_before_the_others_begin_ends_the_benchmark_with_a_line(measured, tmp_path):
    def one_dies(*arguments):
        try:
            (tmp_path / "died").mkdir()
        except FileExistsError:
            begins_with_the_others(*arguments)
        else:
            os._exit(9)

    with pytest.raises(SystemExit, match=r"^recorded, 3 at once: a trial ended with exit code 9$"):
        measured(one_dies, packed=3)
