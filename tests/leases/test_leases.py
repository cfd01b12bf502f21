"""One owner at a time: contenders, killed owners, owners elsewhere, damaged files."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
from support.owners import elsewhere, files, process

from ctkd_search.leases import lease as leases
from ctkd_search.leases.lease import Held, acquire, holder, try_acquire
from ctkd_search.leases.processes import this_machine


def test_a_process_without_memory_for_another_thread_takes_and_gives_back_leases(tmp_path):
    body = """
import resource, threading
lease.release()
resource.setrlimit(resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
for _ in range(20):
    with try_acquire(Path(sys.argv[1]), "it", "a search") as lease:
        assert lease is not None
print(threading.active_count(), flush=True)
"""
    held = process(tmp_path, body)
    assert held.communicate(timeout=60)[0] == "2\n"
    assert not files(tmp_path)


def test_a_fork_beats_for_its_own_leases_alone(tmp_path):
    body = """
import threading
if os.fork() == 0:
    with try_acquire(Path(sys.argv[1]), "other", "a fork", beat_every=0.01):
        first = (before := next(Path(sys.argv[1]).glob(".other.lease-*"))).read_text()
        while before.read_text() in ("", first):
            time.sleep(0.01)
    print("beats", flush=True)
    os._exit(0)
os.wait()
lease.release()
"""
    held = process(tmp_path, body)
    assert held.communicate(timeout=60)[0] == "beats\n"
    assert not files(tmp_path)


def test_a_lease_is_held_until_it_is_released(tmp_path):
    with acquire(tmp_path, "it", "a search", what="it"):
        assert try_acquire(tmp_path, "it", "a search") is None
        assert try_acquire(tmp_path, "other", "a search") is not None
        with pytest.raises(Held, match=f"the record is in use by a search \\(process {os.getpid()} on .*, since 20"):
            acquire(tmp_path, "it", "another", what="the record")
        assert holder(tmp_path, "it").pid == os.getpid() == holder(tmp_path).pid
    assert holder(tmp_path, "it") is None
    assert not [name for name in files(tmp_path) if name.startswith(".it.")]
    try_acquire(tmp_path, "it", "a search").release()


def test_the_directory_is_made_only_for_an_owner(tmp_path):
    assert holder(tmp_path / "new", "it") is None
    assert not (tmp_path / "new").exists()
    with acquire(tmp_path / "new", "it", "a search", what="it"):
        assert len(files(tmp_path / "new")) == 1


def test_of_many_contenders_one_owns_it_a_hundred_times(tmp_path):
    """Threads of one process contend as processes do: a lease knows no process that holds it already."""
    rounds_won = 0
    for round_ in range(100):
        # What the contenders find: nothing, the file of an owner that is gone, or several.
        for generation in range(1, round_ % 4):
            elsewhere(tmp_path, generation, machine=this_machine(), pid=2**22 + 1)
        start, owned, most = threading.Barrier(6), [], []
        lock = threading.Lock()

        def contend(start=start, owned=owned, most=most, lock=lock):
            start.wait()
            lease = try_acquire(tmp_path, "it", "a search")
            if lease:
                with lock:
                    owned.append(lease)
                    most.append(len(owned))
                time.sleep(0.001)
                with lock:
                    owned.remove(lease)
                lease.release()

        threads = [threading.Thread(target=contend) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(most, default=0) <= 1
        rounds_won += bool(most)
    # All may give up together, but seldom do.
    assert rounds_won > 80


def test_a_contender_whose_file_was_removed_in_the_place_of_an_older_one_gives_up(tmp_path, monkeypatch):
    # Meanwhile another one took the lease, removed what it had seen before, by its name, and released it again.
    listed = iter([[], []])

    def claims(directory, name):
        for path in directory.glob(".it.lease-*"):
            path.unlink()
        return next(listed)

    monkeypatch.setattr(leases, "lease_claims", claims)
    assert try_acquire(tmp_path, "it", "a search") is None
    assert files(tmp_path) == []


def test_an_owner_removes_what_it_saw_and_no_new_file_of_the_same_name(tmp_path, monkeypatch):
    _, path = elsewhere(tmp_path, 1, machine=this_machine(), pid=2**22 + 1)
    listed = leases.lease_claims
    calls = []

    def claims(directory, name):
        found = listed(directory, name)
        calls.append(found)
        if len(calls) == 2:  # between the second list and the removal
            elsewhere(tmp_path, 1, machine=this_machine(), pid=2**22 + 1, token="another")
        return found

    monkeypatch.setattr(leases, "lease_claims", claims)
    with try_acquire(tmp_path, "it", "a search"):
        assert path.exists()


def test_processes_contend_without_ever_owning_it_together(tmp_path):
    body = """
    import random
    lease.release()
    inside = Path(sys.argv[1]) / "inside"
    done = 0
    while done < 40:
        lease = try_acquire(Path(sys.argv[1]), "it", "a search")
        if lease is None:
            time.sleep(random.uniform(0, 0.001))
            continue
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # raises if another process is inside
        os.unlink(inside)
        lease.release()
        done += 1
    """
    started = [process(tmp_path, body) for _ in range(3)]
    assert [one.wait(timeout=60) for one in started] == [0, 0, 0]
    assert files(tmp_path) == []


def test_a_sleeper_that_saw_a_dead_owner_gives_way_to_a_later_one(tmp_path, monkeypatch):
    """It judged generation 5 gone; meanwhile the lease was taken, given back, and taken again from generation 1."""
    elsewhere(tmp_path, 5, machine=this_machine(), pid=2**22 + 1)
    create = leases.create
    later = []

    def asleep(path, owner):
        monkeypatch.setattr(leases, "create", create)
        try_acquire(tmp_path, "it", "a first").release()
        later.append(try_acquire(tmp_path, "it", "a second"))
        return create(path, owner)

    monkeypatch.setattr(leases, "create", asleep)
    assert try_acquire(tmp_path, "it", "the sleeper") is None
    assert holder(tmp_path, "it").purpose == "a second"
    assert files(tmp_path) == [".it.lease-00000001"]
    later[0].release()


def test_a_sleeper_between_judging_and_creating_loses_against_a_quicker_one(tmp_path, monkeypatch):
    elsewhere(tmp_path, 5, machine=this_machine(), pid=2**22 + 1)
    create = leases.create
    quicker = []

    def asleep(path, owner):
        monkeypatch.setattr(leases, "create", create)
        quicker.append(try_acquire(tmp_path, "it", "the quicker"))
        return create(path, owner)

    monkeypatch.setattr(leases, "create", asleep)
    assert try_acquire(tmp_path, "it", "the sleeper") is None
    assert files(tmp_path) == [".it.lease-00000006"]
    quicker[0].release()


def test_an_owner_that_was_killed_keeps_nobody_out(tmp_path):
    """Killed at any moment, while it takes, holds, beats and releases."""
    body = """
    while True:
        lease.release()
        lease = acquire(Path(sys.argv[1]), "it", "a search", what="it", beat_every=0.0005)
        time.sleep(0.002)
    """
    draw = random.Random(0)
    for _ in range(10):
        started = process(tmp_path, body)
        time.sleep(draw.uniform(0, 0.05))
        started.kill()
        started.wait()
        acquire(tmp_path, "it", "the next", what="it").release()
        assert not [name for name in files(tmp_path) if not name.endswith(".tmp")]


def test_a_stopped_process_of_this_machine_keeps_its_lease(tmp_path):
    started = process(tmp_path, "time.sleep(60)")
    try:
        os.kill(started.pid, signal.SIGSTOP)
        time.sleep(0.2)
        with pytest.raises(Held, match=f"process {started.pid}"):
            acquire(tmp_path, "it", "another", what="it", stale_after=0.1)
    finally:
        started.kill()
        started.wait()


def test_a_process_that_is_gone_but_not_yet_waited_for_holds_nothing(tmp_path):
    started = process(tmp_path, "os._exit(0)")
    time.sleep(0.3)
    acquire(tmp_path, "it", "the next", what="it").release()
    started.wait()


def test_a_process_id_that_was_given_again_holds_nothing(tmp_path):
    elsewhere(tmp_path, machine=this_machine(), born="1")
    assert holder(tmp_path, "it") is None
    acquire(tmp_path, "it", "the next", what="it").release()


def test_a_child_that_was_forked_releases_nothing(tmp_path):
    with acquire(tmp_path, "it", "a search", what="it") as lease:
        child = os.fork()
        if child == 0:
            lease.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert holder(tmp_path, "it") is not None
