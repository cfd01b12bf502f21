"""Leases: one process at a time owns a search, a training or a recording, over processes and machines.

A *lease* is a small file beside what it protects, ``.<name>.lease-<generation>``. It names its *owner* (machine,
process id, and when that process began) and holds a *heartbeat*, a number that the owner raises every few seconds. A
lease outlives its process only as a file that no longer counts:

- An owner on this machine is looked up among its processes. One that is gone, or whose process id now belongs to
  another process, has lost its lease at once.
- An owner elsewhere is judged by its heartbeat: it is gone when the number has not changed for `STALE_AFTER` seconds
  of the observer's own monotonic clock. No two clocks are ever compared.

Taking a lease: (1) list the leases there are; if an owner is alive, or not yet known to be gone, give up. (2) Create
the next generation exclusively, with its whole content (a hard link to a temporary file). (3) List again; if anything
is there that step 1 did not see, remove one's own file and give up. (4) Remove what step 1 saw.

Two contenders that judge the same lease gone compete for one name in step 2, and the file system lets one of them win.
A contender that falls asleep before step 2 may create a generation that is no longer the next one; whoever took the
lease meanwhile created its file before the sleeper's step 3, which therefore sees it, or lists after the sleeper's step
2 and sees the sleeper's. So at most one of them owns it; in the worst case both give up and try again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.files import make_directory

# Seconds between two heartbeats, and without a change of them until an owner elsewhere counts as gone: several
# heartbeats, because shared file systems show a change late.
BEAT_EVERY = 5.0
STALE_AFTER = 40.0
_POLL = 0.5
_ATTEMPTS = 20

# The heartbeats of owners elsewhere as this process saw them: what was read last, and when it was first read.
_seen: dict[Path, tuple[tuple[str, int], float]] = {}


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease.

    Attributes:
        purpose: What it does, for messages.
        host: Name of its machine.
        machine: What tells the machine and its process ids from all others.
        pid: Its process id.
        born: When the process began, as its machine counts.
        since: When it took the lease, in ISO 8601 and by its own clock; for people alone.
        token: What tells this lease from every other.
        beat: Its heartbeat.
    """

    purpose: str
    host: str
    machine: str
    pid: int
    born: str
    since: str
    token: str
    beat: int = 0

    def __str__(self) -> str:
        """Returns the process as messages name it."""
        return f"process {self.pid} on {self.host}, since {self.since}"


class Held(UserError):
    """Another process holds the lease.

    Attributes:
        owner: That process; None where its file could not be read.
    """

    def __init__(self, what: str, owner: Owner | None) -> None:
        self.owner = owner
        named = f"{owner.purpose} ({owner})" if owner else "a process whose lease cannot be read"
        super().__init__(f"{what} is in use by {named}; wait until it has ended, or stop it")


@dataclass(frozen=True)
class _Claim:
    """A lease file as it was read."""

    path: Path
    generation: int
    owner: Owner | None
    token: str


class Lease:
    """A lease that this process holds; use it as a context manager, or call `release`.

    Args:
        path: Its file.
        generation: The file's generation.
        owner: This process.
        on_lost: Called once, from another thread, when another process has taken the lease over, which happens only
            to a process that did not run for a while (a suspended machine, say).
        every: Seconds between two heartbeats.
    """

    def __init__(
        self, path: Path, generation: int, owner: Owner, on_lost: Callable[[], None] | None, every: float
    ) -> None:
        self.owner = owner
        self._path = path
        self._generation = generation
        self._on_lost = on_lost
        self._every = every
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._lost = threading.Event()
        threading.Thread(target=self._keep, name=f"lease {path.name}", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken it over."""
        return self._lost.is_set()

    def release(self) -> None:
        """Gives it back; a process that was forked from the owner gives nothing back."""
        if os.getpid() != self._pid or self._released.is_set():
            return
        self._released.set()
        with self._lock:
            if not self.lost:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def __enter__(self) -> Lease:
        """Returns the lease."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Releases it."""
        self.release()

    def _keep(self) -> None:
        """Raises the heartbeat until the lease is released or lost."""
        beat, rivals = 0, set[str]()
        while not self._released.wait(self._every):
            beat += 1
            with self._lock:
                if self._released.is_set():
                    return
                # A disk that is full or away for a moment costs one heartbeat.
                with contextlib.suppress(OSError, UserError):
                    later = self._later()
                    # A contender that gives up again is seen once at most.
                    if later & rivals:
                        self._lost.set()
                        break
                    rivals = later
                    _replace(self._path, dataclasses.replace(self.owner, beat=beat))
        if self.lost and self._on_lost:
            self._on_lost()

    def _later(self) -> set[str]:
        """The tokens of later generations."""
        name = self._path.name[1:].rpartition(".lease-")[0]
        return {claim.token for claim in _claims(self._path.parent, name) if claim.generation > self._generation}


def try_acquire(
    directory: Path,
    name: str,
    purpose: str,
    *,
    on_lost: Callable[[], None] | None = None,
    beat_every: float = BEAT_EVERY,
    stale_after: float = STALE_AFTER,
) -> Lease | None:
    """Takes a lease if nobody holds it.

    Called again and again, it comes to take the lease of an owner elsewhere that is gone.

    Args:
        directory: Where the lease is; made if missing.
        name: Name of what it protects.
        purpose: What this process does with it, for the messages of others.
        on_lost: See `Lease`.
        beat_every: Seconds between two heartbeats.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.

    Returns:
        The lease, or None if another process holds it, or may hold it.

    Raises:
        UserError: The directory cannot be written to.
    """
    before = _claims(directory, name)
    if any(not _is_gone(claim, stale_after) for claim in before):
        return None
    make_directory(directory)
    owner = this_process(purpose)
    generation = max((claim.generation for claim in before), default=0) + 1
    path = directory / f".{name}.lease-{generation:08d}"
    try:
        if not _create(path, owner):
            return None
        known = {owner.token, *(claim.token for claim in before)}
        if any(claim.token not in known for claim in _claims(directory, name)):
            path.unlink(missing_ok=True)
            return None
        for claim in before:
            claim.path.unlink(missing_ok=True)
            _seen.pop(claim.path, None)
        _remove_leftovers(path, name)
    except OSError as error:
        raise UserError(f"cannot write to the directory {directory}: {error.strerror or error}") from None
    return Lease(path, generation, owner, on_lost, beat_every)


def acquire(
    directory: Path,
    name: str,
    purpose: str,
    *,
    what: str,
    say: Callable[[str], None] | None = None,
    on_lost: Callable[[], None] | None = None,
    beat_every: float = BEAT_EVERY,
    stale_after: float = STALE_AFTER,
) -> Lease:
    """Takes a lease, or says who holds it.

    An owner on this machine is known to be alive or gone at once; for one elsewhere, its heartbeat is awaited.

    Args:
        directory: Where the lease is; made if missing.
        name: Name of what it protects.
        purpose: What this process does with it, for the messages of others.
        what: What it protects, for the message.
        say: Told when an owner's heartbeat is awaited.
        on_lost: See `Lease`.
        beat_every: Seconds between two heartbeats.
        stale_after: Seconds without a heartbeat after which an owner elsewhere counts as gone.

    Raises:
        Held: Another process holds it.
        UserError: The directory cannot be written to.
    """
    first: dict[Path, str] = {}
    beats: dict[str, int] = {}
    attempts = 0
    while True:
        lease = try_acquire(directory, name, purpose, on_lost=on_lost, beat_every=beat_every, stale_after=stale_after)
        if lease is not None:
            return lease
        claims = [claim for claim in _claims(directory, name) if not _is_gone(claim, stale_after)]
        for claim in claims:
            owner = claim.owner
            alive_here = owner is not None and owner.machine == _machine()
            beats_on = owner is not None and owner.beat > beats.setdefault(owner.token, owner.beat)
            if alive_here or beats_on or first.get(claim.path, claim.token) != claim.token:
                raise Held(what, owner)
            if claim.path not in first:
                first[claim.path] = claim.token
                if say:
                    named = str(owner) if owner else "a process whose lease cannot be read"
                    say(f"{what} was begun by {named}; waiting up to {stale_after:.0f} s to see whether it is alive")
        attempts = 0 if claims else attempts + 1
        if attempts > _ATTEMPTS:
            raise Held(what, None)
        # Contenders that gave up together must not meet again.
        time.sleep(_POLL if claims else random.uniform(0.0, 0.05))


def holder(directory: Path, name: str, stale_after: float = STALE_AFTER) -> Owner | None:
    """Returns the process that holds a lease; None if nobody does, or if its owner elsewhere is known to be gone."""
    owners = [claim.owner for claim in _claims(directory, name) if not _is_gone(claim, stale_after)]
    return next((owner for owner in owners if owner), None)


def this_process(purpose: str) -> Owner:
    """Returns the owner that this process is, with a fresh token."""
    pid = os.getpid()
    return Owner(
        purpose=purpose,
        host=platform.node() or "this machine",
        machine=_machine(),
        pid=pid,
        born=_born(pid) or "",
        since=datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        token=uuid.uuid4().hex,
    )


def _claims(directory: Path, name: str) -> list[_Claim]:
    """Every lease file of a name."""
    prefix = f".{name}.lease-"
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror or error}") from None
    return [claim for text in names if (claim := _read(directory / text, text.removeprefix(prefix))) is not None]


def _read(path: Path, generation: str) -> _Claim | None:
    """A lease file; None if it has gone, or is none (a temporary file beside one)."""
    if not generation.isdecimal():
        return None
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        content = b""
    try:
        values = json.loads(content)
        owner = Owner(**values)
        if not (isinstance(owner.pid, int) and isinstance(owner.beat, int) and isinstance(owner.token, str)):
            raise TypeError
    except (ValueError, TypeError):
        # Half-written by a file system that knows no links, or damaged: it counts as held until it stops changing.
        return _Claim(path, int(generation), None, hashlib.sha256(content).hexdigest())
    return _Claim(path, int(generation), owner, owner.token)


def _is_gone(claim: _Claim, stale_after: float) -> bool:
    """Whether the owner of a lease is known to be gone."""
    owner = claim.owner
    if owner is not None and owner.machine == _machine():
        return _born(owner.pid) != owner.born
    last = (claim.token, owner.beat if owner else 0)
    now = time.monotonic()
    known, since = _seen.get(claim.path, (None, now))
    if known != last:
        since = now
        _seen[claim.path] = (last, now)
    return now - since >= stale_after


def _create(path: Path, owner: Owner) -> bool:
    """Creates a lease file with its whole content; False if there is one of that name already."""
    with _temporary(path, owner) as written:
        try:
            os.link(written, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without hard links: exclusive too, but its content comes a moment later.
            try:
                with open(path, "xb") as file:
                    file.write(written.read_bytes())
            except FileExistsError:
                return False
    return True


def _replace(path: Path, owner: Owner) -> None:
    with _temporary(path, owner) as written:
        written.replace(path)


@contextlib.contextmanager
def _temporary(path: Path, owner: Owner) -> Iterator[Path]:
    """A file beside a lease with its content, removed at the end."""
    temporary = path.with_name(f"{path.name}.{owner.token}.tmp")
    try:
        temporary.write_text(json.dumps(dataclasses.asdict(owner)), encoding="utf-8")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(lease: Path, name: str) -> None:
    """Removes temporary files of processes that were killed while they wrote one."""
    # Both times are the file system's own; nobody takes an hour to write a hundred bytes.
    old = lease.stat().st_mtime - 3600
    for path in lease.parent.glob(f".{name}.lease-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < old:
                path.unlink()


@cache
def _machine() -> str:
    """What tells this machine, since it was booted, and its table of processes from all others."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "|".join(parts)


def _born(pid: int) -> str | None:
    """When a process of this machine began, as a text to compare; None if there is no such process any more.

    On Linux in ticks since the machine was booted, which no change of its clock moves.
    """
    try:
        # The name of the program, in parentheses, may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None
