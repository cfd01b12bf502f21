"""Leases: one process at a time owns a search, a training or a recording, over processes and machines.

A *lease* is a small file next to the files that it protects, ``.<name>.lease-<generation>``. It names its *owner*
(machine, process id, and start of that process) and contains a *heartbeat*, a number that the owner raises every few
seconds. When its process has ended, the file no longer counts:

- An owner on this machine is looked up among its processes. One that is gone, or whose process id now belongs to
  another process, has lost its lease at once.
- An owner elsewhere is judged by its heartbeat: it is gone when the number has not changed for `STALE_AFTER` seconds
  of the observer's own monotonic clock. No two clocks are ever compared.

Taking a lease: (1) list the leases there are; if an owner is alive, or not yet known to be gone, give up. (2) Create
the next generation exclusively, with its whole content (a hard link to a temporary file). (3) List again; if anything
is there that step 1 did not see, or one's own file is not, remove one's own file and give up. (4) Remove what step 1
saw.

Two contenders that judge the same lease gone compete for one name in step 2, and the file system lets one of them win.
A contender that is suspended before step 2 may create a generation that is no longer the next one; the process that
took the lease meanwhile created its file before the suspended one's step 3, which therefore sees it, or lists after the
suspended one's step 2 and sees its file. So at most one of them owns it; in the worst case both give up and try again.

An owner whose heartbeat stood still may not be dead but suspended: its machine slept, or its storage was unavailable.
When it resumes it finds a later generation, and so knows that its lease is *lost*. Therefore generations must not begin
again meanwhile: a process that takes a lease because a heartbeat stood still keeps the file when it releases the lease,
marked as released, and so do all later owners. Otherwise the file is removed: a process known to be dead does not
resume.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.files import make_directory
from ctkd_search.leases.files import (
    Claim,
    Owner,
    create,
    lease_claims,
    read_claim,
    remove_leftovers,
    replace,
    this_process,
)
from ctkd_search.leases.heartbeats import heartbeats

# Seconds between two heartbeats, and without a change of them until an owner elsewhere counts as gone: several
# heartbeats, because shared file systems show a change late.
BEAT_EVERY = 5.0
STALE_AFTER = 40.0
_POLL = 0.5
_ATTEMPTS = 20
# An owner that did not run for so many heartbeats checks at once that its lease was not taken over.
_SILENT_BEATS = 4

# The heartbeats of owners on other machines as this process saw them: the last one read, and when it was first read.
_seen: dict[Path, tuple[tuple[str, int], float]] = {}


class Held(UserError):
    """Another process holds the lease.

    Attributes:
        owner: That process; None if its file could not be read.
    """

    def __init__(self, what: str, owner: Owner | None) -> None:
        self.owner = owner
        named = f"{owner.purpose} ({owner})" if owner else "a process whose lease cannot be read"
        super().__init__(f"{what} is in use by {named}; wait until it has ended, or stop it")


class Lease:
    """A lease that this process holds; use it as a context manager, or call `release`.

    Args:
        path: Its file.
        generation: The file's generation.
        owner: This process.
        every: Seconds between two heartbeats.
    """

    def __init__(self, path: Path, generation: int, owner: Owner, every: float) -> None:
        self.owner = owner
        self._path = path
        self._generation = generation
        self._on_lost: Callable[[], None] | None = None
        self._every = every
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._released = False
        self._lost = False
        self._beats = 0
        self._rivals = set[str]()
        self._ran = _clock()
        heartbeats.add(self._beat, every)

    @property
    def lost(self) -> bool:
        """Returns whether another process has taken it over."""
        return self._lost

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Calls `callback` from another thread once another process has taken the lease over.

        That happens only to a process that did not run for a while, as on a machine that was suspended.
        """
        self._on_lost = callback
        if self.lost:
            callback()

    def release(self) -> None:
        """Releases it; does nothing in a process that was forked from the owner."""
        if os.getpid() != self._pid or self._released:
            return
        heartbeats.remove(self._beat)
        with self._lock:
            self._released = True
            if not self.lost:
                with contextlib.suppress(OSError):
                    self._give_back()

    def __enter__(self) -> Lease:
        """Returns the lease."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Releases it."""
        self.release()

    def _give_back(self) -> None:
        """Removes the file, or marks it as released where a later owner must not begin again with its generation."""
        if self.owner.stays:
            replace(self._path, dataclasses.replace(self.owner, released=True))
        else:
            self._path.unlink()

    def _beat(self) -> float | None:
        """Raises the heartbeat; returns seconds until the next one, None once the lease is released or lost."""
        with self._lock:
            if self._released or self._lost:
                return None
            pause = self._every
            # A disk that is full or away for a moment, or too little memory, costs one heartbeat.
            with contextlib.suppress(OSError, UserError, MemoryError):
                later = self._later()
                if self._is_taken(later, self._rivals):
                    self._lose()
                else:
                    self._rivals = {claim.token for claim in later}
                    awoke = _clock() - self._ran > _SILENT_BEATS * self._every
                    pause = min(_POLL, self._every) if self._rivals and awoke else self._every
                    self._beats += 1
                    replace(self._path, dataclasses.replace(self.owner, beat=self._beats))
                    self._ran = _clock()
        if not self._lost:
            return pause
        if self._on_lost:
            self._on_lost()
        return None

    def _is_taken(self, later: list[Claim], rivals: set[str]) -> bool:
        """Returns whether another process owns it; `rivals` are tokens of later generations seen before."""
        # A contender that gives up again is seen once at most, and releases nothing.
        if any(claim.token in rivals or (claim.owner and claim.owner.released) for claim in later):
            return True
        mine = read_claim(self._path, str(self._generation))
        return mine is not None and mine.owner is not None and mine.token != self.owner.token

    def _lose(self) -> None:
        """Takes away the file that this process may have written after it lost the lease, and then notes the loss."""
        # In this order: a process that ends as soon as it knows would leave a file that looks alive.
        with contextlib.suppress(OSError):
            mine = read_claim(self._path, str(self._generation))
            if mine is not None and mine.token == self.owner.token:
                self._path.unlink()
        self._lost = True

    def _later(self) -> list[Claim]:
        """The claims of later generations."""
        name = self._path.name[1:].rpartition(".lease-")[0]
        return [claim for claim in lease_claims(self._path.parent, name) if claim.generation > self._generation]


def try_acquire(
    directory: Path,
    name: str,
    purpose: str,
    *,
    beat_every: float = BEAT_EVERY,
    stale_after: float = STALE_AFTER,
) -> Lease | None:
    """Takes a lease if no other process holds it.

    Repeated calls finally take the lease of an owner on another machine that is gone.

    Args:
        directory: Directory of the lease; created if missing.
        name: Name of the thing that it protects.
        purpose: Description of this process's work, for the messages of others.
        beat_every: Seconds between two heartbeats.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.

    Returns:
        The lease, or None if another process holds it, or may.

    Raises:
        UserError: The directory cannot be written to.
        RuntimeError: This process has no thread for heartbeats yet, and cannot start one.
    """
    before = lease_claims(directory, name)
    if any(not _is_gone(claim, stale_after) for claim in before):
        return None
    make_directory(directory)
    heartbeats.start()  # before there is a file that needs them
    owner = dataclasses.replace(this_process(purpose), stays=any(_may_wake(claim) for claim in before))
    generation = max((claim.generation for claim in before), default=0) + 1
    path = directory / f".{name}.lease-{generation:08d}"
    try:
        if not create(path, owner):
            return None
        known = {owner.token, *(claim.token for claim in before)}
        alone = all(claim.token in known for claim in lease_claims(directory, name))
        # Read after the list: an owner that came and went may have removed it in the place of an older one of its name.
        if not alone or not _is_there(path, owner.token):
            _remove(path, owner.token)
            return None
        for claim in before:
            _remove(claim.path, claim.token)
            _seen.pop(claim.path, None)
        remove_leftovers(path, name)
    except OSError as error:
        raise UserError(f"cannot write to the directory {directory}: {error.strerror or error}") from None
    return Lease(path, generation, owner, beat_every)


def acquire(
    directory: Path,
    name: str,
    purpose: str,
    *,
    what: str,
    say: Callable[[str], None] | None = None,
    beat_every: float = BEAT_EVERY,
    stale_after: float = STALE_AFTER,
) -> Lease:
    """Takes a lease, or raises an error that names its holder.

    An owner on this machine is known to be alive or gone at once; for one on another machine, its heartbeat is awaited.

    Args:
        directory: Directory of the lease; created if missing.
        name: Name of the thing that it protects.
        purpose: Description of this process's work, for the messages of others.
        what: Description of the thing that it protects, for the message.
        say: Called with a message when an owner's heartbeat is awaited.
        beat_every: Seconds between two heartbeats.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.

    Raises:
        Held: Another process holds it.
        UserError: The directory cannot be written to.
    """
    attempts = 0
    while (lease := try_acquire(directory, name, purpose, beat_every=beat_every, stale_after=stale_after)) is None:
        claim = living(directory, name, what=what, say=say, stale_after=stale_after)
        attempts += 1
        if claim is not None or attempts > _ATTEMPTS:
            raise Held(what, claim.owner if claim else None)
        # Random, so that contenders that gave up together do not try together again.
        time.sleep(random.uniform(0.0, 0.05))
    return lease


def living(
    directory: Path,
    name: str = "*",
    *,
    what: str,
    say: Callable[[str], None] | None = None,
    stale_after: float = STALE_AFTER,
) -> Claim | None:
    """Returns a lease whose owner is known to be alive; None if there is none, or every owner is known to be gone.

    An owner on this machine is known to be alive or gone at once. For one on another machine, or on this one before it
    was booted again, its heartbeat is awaited: a process that looks only once cannot know that such an owner is gone.

    Args:
        directory: Directory of the lease.
        name: Name of the thing that it protects; ``*`` for any in the directory.
        what: Description of the thing that it protects, for the message.
        say: Called with a message when an owner's heartbeat is awaited.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.
    """
    first: dict[Path, Claim] = {}
    while claims := [claim for claim in lease_claims(directory, name) if not _is_gone(claim, stale_after)]:
        for claim in claims:
            alive_here = claim.owner is not None and claim.owner.runs() is True
            if alive_here or first.get(claim.path, claim) != claim:
                return claim
        for claim in claims:
            if claim.path not in first and say:
                say(f"{what} was started by {claim}; waiting up to {stale_after:.0f} s to see whether it is alive")
            first[claim.path] = claim
        time.sleep(_POLL)
    return None


def wait_for(directory: Path, name: str, purpose: str) -> Lease:
    """Takes a lease as soon as no other process holds it.

    Args:
        directory: Directory of the lease; created if missing.
        name: Name of the thing that it protects.
        purpose: Description of this process's work, for the messages of others.

    Raises:
        UserError: The directory cannot be written to.
    """
    while (lease := try_acquire(directory, name, purpose)) is None:
        time.sleep(random.uniform(0.0, 2 * _POLL))
    return lease


def holder(directory: Path, name: str = "*", stale_after: float = STALE_AFTER) -> Owner | None:
    """Returns the process that holds a lease; None if none does, or if its owner is known to be gone.

    It does not wait, so that an owner elsewhere that it sees for the first time holds the lease; see `living`.

    Args:
        directory: Directory of the lease.
        name: Name of the thing that it protects; ``*`` for any in the directory.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.
    """
    owners = [claim.owner for claim in lease_claims(directory, name) if not _is_gone(claim, stale_after)]
    return next((owner for owner in owners if owner), None)


def _is_there(path: Path, token: str) -> bool:
    """Returns whether a lease file is there and is the one that was read or written with a token."""
    found = read_claim(path, path.name.rpartition("-")[2])
    return found is not None and found.token == token


def _remove(path: Path, token: str) -> None:
    """Removes a lease file, unless another one has its name by now."""
    if _is_there(path, token):
        path.unlink(missing_ok=True)


def _is_gone(claim: Claim, stale_after: float) -> bool:
    """Returns whether the owner of a lease is known to be gone."""
    owner = claim.owner
    if owner is not None:
        if owner.released:
            return True
        runs = owner.runs()
        if runs is not None:
            return not runs
    last = (claim.token, owner.beat if owner else 0)
    now = time.monotonic()
    known, since = _seen.get(claim.path, (None, now))
    if known != last:
        since = now
        _seen[claim.path] = (last, now)
    return now - since >= stale_after


def _may_wake(claim: Claim) -> bool:
    """Returns whether the owner of a lease that counts as gone, or one before it, may be asleep and go on one day."""
    owner = claim.owner
    return owner is None or owner.stays or owner.runs() is not False


def _clock() -> float:
    """Seconds that pass while this machine is suspended too, where the system counts them."""
    counts = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if counts is None else time.clock_gettime(counts)
