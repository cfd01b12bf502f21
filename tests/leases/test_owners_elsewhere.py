"""Leases whose owners are judged by their heartbeat, and files that are damaged, lost or replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.owners import FAST, elsewhere, files, process

from ctkd_search.errors import UserError
from ctkd_search.leases import files as lease_files
from ctkd_search.leases import lease as leases
from ctkd_search.leases import processes
from ctkd_search.leases.lease import Held, acquire, holder, living, try_acquire
from ctkd_search.leases.processes import this_machine


def test_an_owner_elsewhere_keeps_others_out_while_its_heart_beats(tmp_path):
    owner, path = elsewhere(tmp_path)
    stop = threading.Event()

    def beat():
        for count in range(1, 1000):
            if stop.wait(0.1):
                return
            leases.replace(path, dataclasses.replace(owner, beat=count))

    heart = threading.Thread(target=beat)
    heart.start()
    said = []
    try:
        with pytest.raises(Held, match=r"process .* on far"):
            acquire(tmp_path, "it", "another", what="the search", say=said.append, stale_after=5)
    finally:
        stop.set()
        heart.join()
    assert len(said) == 1
    assert "waiting up to 5 s to see whether it is alive" in said[0]


def test_an_owner_elsewhere_whose_heart_stands_still_is_gone(tmp_path):
    elsewhere(tmp_path)
    began = time.monotonic()
    with acquire(tmp_path, "it", "the next", what="it", **FAST):
        assert time.monotonic() - began >= FAST["stale_after"]
        assert files(tmp_path) == [".it.lease-00000002"]


def test_a_process_that_looks_once_waits_until_it_is_sure_of_an_owner_elsewhere(tmp_path):
    owner, path = elsewhere(tmp_path)
    said = []
    assert holder(tmp_path, "it") == owner  # without waiting, nobody can know
    assert living(tmp_path, "it", what="the search", say=said.append, stale_after=0.3) is None
    assert said == [f"the search was started by {owner}; waiting up to 0 s to see whether it is alive"]
    beaten = dataclasses.replace(owner, beat=1)
    heart = threading.Timer(0.2, leases.replace, (path, beaten))
    elsewhere(tmp_path, token="another")
    heart.start()
    assert living(tmp_path, what="the search", stale_after=5).owner == beaten
    heart.join()


def test_of_an_owner_on_this_machine_a_process_is_sure_at_once(tmp_path):
    assert living(tmp_path / "new", what="it") is None
    with acquire(tmp_path, "it", "a search", what="it") as lease:
        assert living(tmp_path, what="it", say=pytest.fail).token == lease.owner.token
    elsewhere(tmp_path, machine=this_machine(), pid=2**22 + 1)
    assert living(tmp_path, what="it", say=pytest.fail) is None


def test_no_clock_or_file_time_ends_a_lease(tmp_path, monkeypatch):
    """An hour back, and an hour ahead: neither makes an owner die nor live."""
    past, now = time.time() - 3600, time.time
    with acquire(tmp_path, "here", "a search", what="it"):
        for path in tmp_path.iterdir():
            os.utime(path, (past, past))
        monkeypatch.setattr(time, "time", lambda: now() + 7200)
        assert try_acquire(tmp_path, "here", "another") is None
    _, path = elsewhere(tmp_path, since="2000-01-01 00:00:00+00:00")
    os.utime(path, (past, past))
    assert try_acquire(tmp_path, "it", "another", stale_after=0.3) is None
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    time.sleep(0.35)
    assert try_acquire(tmp_path, "it", "another", stale_after=0.3) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_file_that_cannot_be_read_counts_until_it_stops_changing(tmp_path, content):
    (tmp_path / ".it.lease-00000003").write_bytes(content)
    assert try_acquire(tmp_path, "it", "another", stale_after=0.1) is None
    time.sleep(0.15)
    with try_acquire(tmp_path, "it", "another", stale_after=0.1):
        assert files(tmp_path) == [".it.lease-00000004"]


def test_a_file_system_without_hard_links_serves_too(tmp_path, monkeypatch):
    def refuse(*words):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with acquire(tmp_path, "it", "a search", what="it"):
        assert try_acquire(tmp_path, "it", "another") is None
    with try_acquire(tmp_path, "it", "another"):
        assert len(files(tmp_path)) == 1


def test_a_lease_that_was_taken_over_is_lost_and_its_new_owner_is_left_alone(tmp_path):
    lost = threading.Event()
    lease = try_acquire(tmp_path, "it", "a search", beat_every=0.02)
    lease.when_lost(lost.set)
    _, path = elsewhere(tmp_path, 2)
    assert lost.wait(5)
    assert lease.lost
    lease.release()
    assert path.exists()


def test_a_lost_lease_has_left_no_file_when_its_process_learns_of_it(tmp_path, monkeypatch):
    lease = try_acquire(tmp_path, "it", "a search", beat_every=0.02)
    read, known = leases.read_claim, []
    monkeypatch.setattr(leases, "read_claim", lambda *words: known.append(lease.lost) or read(*words))
    elsewhere(tmp_path, 2)
    while not lease.lost:
        time.sleep(0.001)
    assert files(tmp_path) == [".it.lease-00000002"]
    assert known
    assert not any(known)


def test_a_contender_that_gives_up_again_takes_nothing_away(tmp_path):
    with try_acquire(tmp_path, "it", "a search", beat_every=0.05) as lease:
        for generation in range(2, 6):
            _, path = elsewhere(tmp_path, generation)
            time.sleep(0.04)
            path.unlink()
        time.sleep(0.2)
        assert not lease.lost


def test_a_lease_file_that_somebody_removed_comes_back(tmp_path):
    with try_acquire(tmp_path, "it", "a search", beat_every=0.02):
        (tmp_path / ".it.lease-00000001").unlink()
        time.sleep(0.2)
        assert holder(tmp_path, "it") is not None


def test_temporary_files_of_killed_processes_are_removed_an_hour_later(tmp_path):
    for name, age in (("old", 4000), ("young", 10)):
        path = tmp_path / f".it.lease-00000001.{name}.tmp"
        path.write_text("")
        os.utime(path, (time.time() - age, time.time() - age))
    try_acquire(tmp_path, "it", "a search").release()
    assert files(tmp_path) == [".it.lease-00000001.young.tmp"]


def test_a_lease_in_a_place_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        try_acquire(tmp_path / "file", "it", "a search")


@pytest.mark.parametrize("killed", [False, True], ids=["released", "killed"])
def test_an_owner_that_slept_while_others_came_and_went_knows_that_its_lease_is_lost(tmp_path, killed):
    body = """
    while not lease.lost:
        time.sleep(0.01)
    print("lost", flush=True)
    """
    sleeper = process(tmp_path, body, node="far")
    try:
        os.kill(sleeper.pid, signal.SIGSTOP)
        second = acquire(tmp_path, "it", "the second", what="it", stale_after=0.3)
        second.release()
        if killed:  # between its taking and its release
            gone = dataclasses.replace(second.owner, pid=2**22 + 1)
            (tmp_path / ".it.lease-00000002").write_text(json.dumps(dataclasses.asdict(gone)))
        with acquire(tmp_path, "it", "the third", what="it", beat_every=0.02) as third:
            os.kill(sleeper.pid, signal.SIGCONT)
            assert sleeper.stdout.readline() == "lost\n"
            assert sleeper.wait(timeout=10) == 0
            assert not third.lost
            assert holder(tmp_path, "it").purpose == "the third"
        # What is left keeps nobody out, and no generation comes again.
        assert files(tmp_path) == [".it.lease-00000003"]
        assert holder(tmp_path, "it") is None
        with acquire(tmp_path, "it", "the fourth", what="it"):
            assert files(tmp_path) == [".it.lease-00000004"]
    finally:
        sleeper.kill()
        sleeper.wait()


def test_an_owner_that_slept_loses_its_lease_to_one_that_has_already_released_it(tmp_path):
    lease = try_acquire(tmp_path, "it", "a search", beat_every=0.3)
    elsewhere(tmp_path, 2, stays=True, released=True)
    time.sleep(0.5)
    assert lease.lost
    assert files(tmp_path) == [".it.lease-00000002"]


def test_a_lease_file_that_is_another_s_by_now_is_not_written_over(tmp_path):
    lease = try_acquire(tmp_path, "it", "a search", beat_every=0.1)
    other, path = elsewhere(tmp_path)
    time.sleep(0.3)
    assert lease.lost
    assert json.loads(path.read_text())["token"] == other.token


def test_a_process_that_may_not_be_looked_at_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    """As where /proc hides the processes of other users: there is one of that id, and that is all that is known."""
    monkeypatch.setattr(processes, "Path", lambda path: Path("/proc/self/stat" if path == "/proc/self/stat" else "/-"))
    monkeypatch.setattr(os, "kill", lambda pid, signal: (_ for _ in ()).throw(PermissionError(1, "not yours")))
    elsewhere(tmp_path, machine=this_machine(), pid=4711)
    assert try_acquire(tmp_path, "it", "another", stale_after=0.2) is None
    time.sleep(0.25)
    with try_acquire(tmp_path, "it", "another", stale_after=0.2) as lease:
        assert lease.owner.stays


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 10**30])
def test_a_process_id_that_nobody_has_holds_nothing(tmp_path, pid):
    elsewhere(tmp_path, machine=this_machine(), pid=pid)
    with acquire(tmp_path, "it", "the next", what="it") as lease:
        assert not lease.owner.stays


def test_a_link_whose_answer_was_lost_is_known_as_one_s_own(tmp_path, monkeypatch):
    """A network file system asks again, and hears that the name is taken."""
    link = os.link

    def ask_twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", ask_twice)
    with try_acquire(tmp_path, "it", "a search"):
        assert len(files(tmp_path)) == 1


def test_a_full_disk_without_hard_links_leaves_no_empty_lease(tmp_path, monkeypatch):
    def refuse(*words):
        raise PermissionError(1, "Operation not permitted")

    def full(path, mode, **options):
        path.touch()
        return contextlib.closing(Full())

    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(lease_files, "open", full, raising=False)
    with pytest.raises(UserError, match="No space left on device"):
        try_acquire(tmp_path, "it", "a search")
    assert files(tmp_path) == []
