"""How GPUs and cores are shared out among trials."""

from __future__ import annotations

import os
import re

import pytest
from support.factories import a_space

from ctkd_search.cores import usable_cores
from ctkd_search.errors import UserError
from ctkd_search.resources import (
    Node,
    Share,
    describe,
    most_at_once,
    on_device,
    share_out,
    teacher_threads,
    teachers_at_once,
    thread_limit,
)
from ctkd_search.space.sections import Resources

THIRD = 1 / 3


def wanting(gpus=None, cpus=None, concurrent=None):
    """Instructions of a space."""
    return Resources(gpus_per_trial=gpus, cpus_per_trial=cpus, concurrent_trials=concurrent)


@pytest.mark.parametrize(
    ("wanted", "gpus", "cpus", "share"),
    [
        # nothing asked for: a GPU a trial, or a core a trial
        (wanting(), 0, 2, Share(0, 1, 2)),
        (wanting(), 0, 1, Share(0, 1, 1)),
        (wanting(), 1, 16, Share(1, 16, 1)),
        (wanting(), 4, 16, Share(1, 4, 4)),
        (wanting(), 3, 16, Share(1, 5, 3)),
        (wanting(), 8, 4, Share(1, 1, 4)),
        # GPUs asked for
        (wanting(gpus=0), 4, 16, Share(0, 1, 16)),
        (wanting(gpus=2), 4, 16, Share(2, 8, 2)),
        (wanting(gpus=3), 4, 16, Share(3, 16, 1)),
        (wanting(gpus=4), 4, 16, Share(4, 16, 1)),
        (wanting(gpus=0.5), 1, 16, Share(0.5, 8, 2)),
        (wanting(gpus=THIRD), 1, 16, Share(THIRD, 5, 3)),
        (wanting(gpus=0.33), 2, 12, Share(0.33, 2, 6)),
        (wanting(gpus=0.1), 1, 20, Share(0.1, 2, 10)),
        (wanting(gpus=0.001), 1, 4, Share(0.001, 1, 4)),
        (wanting(gpus=1 / 93), 1, 93, Share(1 / 93, 1, 93)),  # 1 / (1 / 93) is a little less than 93
        # a fraction is of one GPU: what is left of two makes no third
        (wanting(gpus=0.6), 3, 12, Share(0.6, 4, 3)),
        (wanting(gpus=0.4), 2, 16, Share(0.4, 4, 4)),
        # cores and trials asked for
        (wanting(cpus=2), 0, 5, Share(0, 2, 2)),
        (wanting(cpus=8), 4, 16, Share(1, 8, 2)),
        (wanting(gpus=0.25, cpus=8), 1, 16, Share(0.25, 8, 2)),
        (wanting(concurrent=2), 0, 5, Share(0, 2, 2)),
        (wanting(concurrent=1), 0, 8, Share(0, 8, 1)),
        (wanting(concurrent=2), 4, 16, Share(1, 8, 2)),
        (wanting(gpus=THIRD, concurrent=3), 1, 16, Share(THIRD, 5, 3)),
        (wanting(gpus=0.25, cpus=2, concurrent=3), 1, 16, Share(0.25, 2, 3)),
    ],
)
def test_what_a_trial_gets(wanted, gpus, cpus, share):
    assert share_out(wanted, [Node(gpus, cpus)]) == share


@pytest.mark.parametrize(
    ("wanted", "gpus", "cpus", "fragment"),
    [
        (wanting(gpus=1), 0, 2, "resources.gpus_per_trial is 1, but the GPUs found are none; lower it, or set it to 0"),
        (wanting(gpus=0.1), 0, 2, "resources.gpus_per_trial is 0.1, but the GPUs found are none"),
        (wanting(gpus=5), 4, 16, "resources.gpus_per_trial is 5, but the GPUs found are 4"),
        (wanting(cpus=3), 0, 2, "resources.cpus_per_trial is 3, but there are 2 cores; lower it"),
        (wanting(concurrent=3), 0, 2, "resources.concurrent_trials is 3, but"),
        (wanting(concurrent=2), 1, 16, "at most 1 can run at once; lower it, or lower the resources of a trial"),
        (wanting(gpus=THIRD, concurrent=4), 1, 16, "at most 3 can run at once"),
        (wanting(gpus=0.6, concurrent=5), 3, 16, "at most 3 can run at once"),
        (wanting(cpus=4, concurrent=3), 0, 8, "at most 2 can run at once"),
    ],
)
def test_more_than_there_is(wanted, gpus, cpus, fragment):
    with pytest.raises(UserError) as caught:
        share_out(wanted, [Node(gpus, cpus)])
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "where"),
    [
        ([Node(0, 0)], ""),  # the head of a cluster whose workers have yet to join
        ([Node(1, 0)], " on machines with enough GPUs"),
        ([Node(1, 0), Node(0, 4)], " on machines with enough GPUs"),
    ],
)
@pytest.mark.parametrize("wanted", [{}, {"cpus": 1}, {"concurrent": 1}], ids=str)
def test_machines_without_cores_are_refused(nodes, where, wanted):
    with pytest.raises(UserError, match=rf"^Ray has no CPU core{where}, of which every trial needs one; "):
        share_out(wanting(**wanted), nodes, 4)


@pytest.mark.parametrize("gpus", [0, 1, 2, 4])
@pytest.mark.parametrize("cpus", [1, 2, 7, 16])
@pytest.mark.parametrize("per_trial", [None, 0, 0.2, THIRD, 0.5, 1, 2])
@pytest.mark.parametrize("cores", [None, 1, 3])
def test_no_more_is_given_than_there_is(gpus, cpus, per_trial, cores):
    try:
        share = share_out(wanting(per_trial, cores), [Node(gpus, cpus)])
    except UserError:
        assert (per_trial or 0) > gpus or (cores or 0) > cpus
        return
    assert share.concurrent >= 1
    assert share.cpus >= 1
    assert share.concurrent * share.gpus <= gpus + 1e-6
    assert share.concurrent * share.cpus <= cpus
    assert share.device == ("cuda" if share.gpus else "cpu")


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_threads_that_nobody_asked_for_are_limited(limit):
    nodes = [Node(0, 8)]
    alone = share_out(wanting(), nodes, trials=1, limit=limit)
    assert alone.cpus == min(limit, 8)
    many = share_out(wanting(), nodes, limit=limit)
    assert (many.cpus, many.concurrent) == (1, 8)
    assert teacher_threads(many, runs=1) == min(limit, 8)
    asked = share_out(wanting(cpus=4), nodes, limit=limit)
    assert asked.cpus == 4
    assert teacher_threads(asked, runs=1) == max(4, min(limit, 8))


@pytest.mark.parametrize(
    ("share", "at_once"),
    [
        (Share(0, 1, 6), 6),
        (Share(1, 4, 3), 3),
        (Share(2, 4, 3), 3),  # each has as much as a trial
        (Share(0.25, 2, 8), 2),  # two GPUs
        (Share(0.25, 2, 5), 2),
        (Share(THIRD, 1, 9), 3),
        (Share(0.6, 4, 4), 4),  # a trial on each of four GPUs
        (Share(1 / 16, 1, 1), 1),
    ],
)
def test_as_many_teachers_are_trained_at_once_as_there_are_gpus(share, at_once):
    assert teachers_at_once(share) == at_once


@pytest.mark.parametrize(
    ("share", "runs", "threads"),
    [
        (Share(0.25, 2, 8, cores=16), 1, 16),
        (Share(0.25, 2, 8, cores=16), 2, 8),
        (Share(0.25, 2, 8, cores=16), 5, 8),  # the others wait for a GPU
        (Share(0.25, 2, 8, cores=4), 1, 4),  # of one machine
        (Share(1, 8, 2, cores=16), 5, 8),
    ],
)
def test_teachers_that_wait_for_a_gpu_leave_their_cores_to_the_others(share, runs, threads):
    assert teacher_threads(share, runs) == threads


@pytest.mark.parametrize(("said", "limit"), [("3", 3), ("", None), ("0", None), ("4,2", None), (None, None)])
def test_the_limit_is_said_as_to_torch(monkeypatch, said, limit):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert thread_limit() == limit


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (Share(0, 1, 1), "1 trial at once, each with 1 CPU thread"),
        (Share(0, 2, 3), "3 trials at once, each with 2 CPU threads"),
        (Share(1, 1, 2), "2 trials at once, each with 1 GPU and 1 CPU thread"),
        (Share(2, 8, 1), "1 trial at once, each with 2 GPUs and 8 CPU threads"),
        (Share(0.5, 2, 2), "2 trials at once, each with 0.5 GPU and 2 CPU threads"),
    ],
)
def test_a_share_in_words(share, words):
    assert str(share) == words


@pytest.mark.parametrize(
    ("wanted", "gpus", "cpus", "trials", "share"),
    [
        (wanting(), 0, 16, 1, Share(0, 16, 1)),
        (wanting(), 0, 16, 3, Share(0, 5, 3)),
        (wanting(), 0, 2, 30, Share(0, 1, 2)),
        (wanting(), 4, 16, 2, Share(1, 8, 2)),
        (wanting(), 2, 16, 30, Share(1, 8, 2)),
        (wanting(cpus=2), 0, 16, 3, Share(0, 2, 3)),
        (wanting(concurrent=4), 0, 16, 2, Share(0, 4, 4)),  # what is asked for is given
        (wanting(gpus=0.25), 1, 16, 2, Share(0.25, 8, 2)),
    ],
)
def test_few_trials_get_more_of_the_machine(wanted, gpus, cpus, trials, share):
    assert share_out(wanted, [Node(gpus, cpus)], trials) == share


@pytest.mark.parametrize(
    ("sections", "explored", "most"),
    [
        ({}, 0, 1),
        ({}, 5, 5),  # extended before, and gone on with fewer trials
        ({"budget": {"trials": 4}}, 1, 4),
        # Of two pairs, each has a baseline that listens to its teacher; the student alone is run once.
        ({"baselines": ["student-alone", "kd"]}, 0, 4),
        ({"confirm": {"best": 2, "seeds": 3}}, 0, 6),
        ({"confirm": {"best": 1, "seeds": 3}, "baselines": ["kd"], "budget": {"trials": 9}}, 0, 11),
        ({"confirm": {"best": 2, "seeds": 4}, "baselines": ["kd"], "budget": {"trials": 9}}, 0, 12),
    ],
)
def test_the_trials_of_a_search_that_could_run_at_once(sections, explored, most):
    pairs = {"choice": ["wrn-16-2/resnet8", "wrn-16-1/resnet8"]}
    search = {"pair": pairs, "lr": {"float": [0.01, 0.3]}}
    assert most_at_once(a_space(**{"budget": {"trials": 1}, "search": search, **sections}), explored) == most


def test_cores_of_two_machines_do_not_add_up_for_few_trials():
    assert share_out(wanting(), [Node(0, 4), Node(0, 4)], 1) == Share(0, 4, 1)
    assert share_out(wanting(), [Node(0, 4), Node(0, 4)], 3) == Share(0, 2, 3)


def test_a_device_by_name():
    assert on_device(wanting(), None) == wanting()
    assert on_device(wanting(cpus=2), "cpu") == wanting(gpus=0.0, cpus=2)
    cluster = Resources(address="auto")
    assert on_device(cluster, "cuda") == Resources(address="auto", gpus_per_trial=1.0)
    packed = Resources(address="auto", trials_per_gpu=3)
    assert on_device(packed, "cuda") == packed
    for given in (wanting(gpus=0.5), Resources(trials_per_gpu="auto")):
        with pytest.raises(UserError, match="--device cpu cannot be combined with GPUs for each trial"):
            on_device(given, "cpu")
    with pytest.raises(UserError, match="--device cuda cannot be combined with --gpus-per-trial 0"):
        on_device(wanting(gpus=0), "cuda")


@pytest.mark.parametrize(
    ("packed", "gpus", "cpus", "concurrent"), [(1, 2, 8, 2), (4, 2, 8, 8), (3, 1, 8, 3), (8, 1, 4, 4)]
)
def test_trials_share_a_gpu_as_asked(packed, gpus, cpus, concurrent):
    share = share_out(Resources(trials_per_gpu=packed), [Node(gpus, cpus)])
    assert share.gpus == pytest.approx(1 / packed)
    assert share.concurrent == concurrent


def test_packing_without_a_gpu_is_refused():
    with pytest.raises(UserError, match="no GPU was found"):
        share_out(Resources(trials_per_gpu="auto"), [Node(0, 8)])


@pytest.mark.parametrize(
    ("need", "total", "nodes", "fitting"),
    [
        (2_000_000_000, 80_000_000_000, [(1, 64)], 16),  # never more than 16
        (10_000_000_000, 80_000_000_000, [(1, 64)], 6),  # 85 % of the memory
        (2_000_000_000, 80_000_000_000, [(1, 4)], 4),  # a core for each
        (2_000_000_000, 80_000_000_000, [(0, 64), (2, 8), (1, 8)], 4),  # of the machine that has the GPU
        (90_000_000_000, 80_000_000_000, [(1, 16)], 1),  # one must fit, whatever was seen
        (2_000_000_000, 80_000_000_000, [(8, 4)], 1),
    ],
)
def test_trials_that_fit_a_gpu(need, total, nodes, fitting):
    from ctkd_search.search.packing import trials_that_fit

    assert trials_that_fit(need, total, [Node(*node) for node in nodes]) == fitting


@pytest.mark.parametrize(
    ("wanted", "nodes", "share", "cores"),
    [
        (wanting(), [(0, 1), (0, 1)], Share(0, 1, 2), 1),
        (wanting(), [(0, 4), (0, 2)], Share(0, 1, 6), 4),
        # cores of two machines do not add up, nor do their GPUs
        (wanting(concurrent=1), [(0, 1), (0, 3)], Share(0, 3, 1), 3),
        (wanting(concurrent=2), [(0, 8), (0, 2)], Share(0, 4, 2), 8),
        (wanting(gpus=2), [(3, 8), (3, 8)], Share(2, 8, 2), 8),
        # machines without a GPU lend no cores to trials that need one
        (wanting(), [(0, 60), (2, 4)], Share(1, 2, 2), 4),
        (wanting(gpus=0.5), [(1, 4), (1, 2)], Share(0.5, 1, 4), 4),
    ],
)
def test_what_a_trial_gets_of_several_machines(wanted, nodes, share, cores):
    given = share_out(wanted, [Node(*node) for node in nodes])
    assert given == share
    assert given.cores == cores


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [(wanting(gpus=4), [(2, 8), (2, 8)]), (wanting(cpus=4), [(0, 2), (0, 2)]), (wanting(concurrent=5), [(0, 2)] * 2)],
)
def test_what_no_single_machine_has_is_refused(wanted, nodes):
    with pytest.raises(UserError, match="but"):
        share_out(wanted, [Node(*node) for node in nodes])


AUTO = Resources(trials_per_gpu="auto")


@pytest.mark.parametrize(
    ("resources", "share", "nodes", "after"),
    [
        (AUTO, Share(0.25, 2, 4), [(1, 8)], Share(1 / 3, 2, 3)),
        (AUTO, Share(0.5, 1, 8), [(4, 8)], Share(1, 2, 4)),
        # fewer at once than there would be room for stay as few
        (AUTO, Share(0.25, 1, 2), [(1, 8)], Share(1 / 3, 4, 2)),
        (AUTO, Share(1 / 16, 1, 16), [(1, 16)], Share(1 / 15, 1, 15)),
        # machines without a GPU lend no cores
        (AUTO, Share(0.25, 2, 4), [(0, 64), (1, 8)], Share(1 / 3, 2, 3)),
        (wanting(gpus=0.25, cpus=1), Share(0.25, 1, 4), [(1, 8)], Share(1 / 3, 1, 3)),
        (wanting(gpus=0.5, concurrent=4), Share(0.5, 2, 4), [(2, 8)], Share(1, 4, 2)),
    ],
)
def test_one_trial_less_on_each_gpu(resources, share, nodes, after, monkeypatch):
    from ctkd_search.search.packing import looser

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = looser(share, resources, [Node(*node) for node in nodes])
    assert found == after
    assert found.gpus * found.concurrent <= sum(gpus for gpus, _ in nodes) + 1e-9


def test_no_trial_computes_on_more_threads_than_a_process_may(monkeypatch):
    from ctkd_search.search.packing import looser

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert looser(Share(0.5, 4, 2), AUTO, [Node(1, 8)]) == Share(1, 2, 1)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([Node(0, 1)], r"1 CPU core \(.+\)"),
        ([Node(0, 2)], r"2 CPU cores \(.+\)"),
        ([Node(1, 16)], r"16 CPU cores \(.+\), 1 GPU \(.+\)"),
        ([Node(1, 2), Node(4, 8)], r"10 CPU cores \(.+\), 5 GPUs \(.+\) on 2 machines"),
    ],
)
def test_what_there_is_to_search_with_in_words(nodes, words):
    assert re.fullmatch(words, describe(nodes))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_cores_that_a_container_does_not_lend_are_not_counted(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processes that can be kept to some cores")
def test_cores_that_a_batch_system_does_not_lend_are_not_counted(tmp_path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
