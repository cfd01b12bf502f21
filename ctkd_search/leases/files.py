"""The files of leases, see `ctkd_search.leases.lease`: who owns them, and how they are created, read and replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.leases.processes import born, is_running, this_machine


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease.

    Attributes:
        purpose: Description of its work, for messages.
        host: Name of its machine.
        machine: Unique text for the machine and its table of process ids.
        pid: Its process id.
        born: Start of the process, as its machine counts.
        since: Time when it took the lease, in ISO 8601 and by its own clock; for people alone.
        token: Unique text of this lease.
        beat: Its heartbeat.
        stays: Whether the file is kept when the lease is given back.
        released: Whether the lease was given back.
    """

    purpose: str
    host: str
    machine: str
    pid: int
    born: str
    since: str
    token: str
    beat: int = 0
    stays: bool = False
    released: bool = False

    def __post_init__(self) -> None:
        """Refuses values of other types, which a damaged file may contain."""
        texts = (self.purpose, self.host, self.machine, self.born, self.since, self.token)
        for values, kind in (((self.pid, self.beat), int), ((self.stays, self.released), bool), (texts, str)):
            if any(type(value) is not kind for value in values):
                raise TypeError(f"not the record of an owner: {values}")

    def __str__(self) -> str:
        """Returns the name of the process for messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"

    def runs(self) -> bool | None:
        """Returns whether the process runs; None if that cannot be known from this process."""
        return is_running(self.machine, self.pid, self.born)


@dataclass(frozen=True)
class Claim:
    """A lease file as it was read."""

    path: Path
    generation: int
    owner: Owner | None
    token: str

    def __str__(self) -> str:
        """Returns the name of its owner for messages."""
        return str(self.owner) if self.owner else "a process whose lease cannot be read"


def this_process(purpose: str) -> Owner:
    """Returns the owner that this process is, with a fresh token."""
    pid = os.getpid()
    return Owner(
        purpose=purpose,
        host=platform.node() or "this machine",
        machine=this_machine(),
        pid=pid,
        born=born(pid) or "",
        since=datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        token=uuid.uuid4().hex,
    )


def lease_claims(directory: Path, name: str) -> list[Claim]:
    """Every lease file of a name, or of any."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(".") and ".lease-" in entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror or error}") from None
    parts = [(text, *text[1:].rpartition(".lease-")[::2]) for text in names]
    found = (read_claim(directory / text, generation) for text, of, generation in parts if name in (of, "*"))
    return [claim for claim in found if claim is not None]


def read_claim(path: Path, generation: str) -> Claim | None:
    """Reads a lease file; returns None if it is gone, or not a lease file but a temporary one."""
    if not generation.isdecimal():
        return None
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        # Its owner replaces the file with each heartbeat, which its time and size show without its content.
        try:
            status = path.stat()
        except OSError:
            content = b""
        else:
            content = f"{status.st_mtime_ns} {status.st_size}".encode()
        return Claim(path, int(generation), None, hashlib.sha256(content).hexdigest())
    try:
        values = json.loads(content)
        owner = Owner(**values)
    except (ValueError, TypeError, RecursionError):
        # Half-written by a file system that knows no links, or damaged: it counts as held until it stops changing.
        return Claim(path, int(generation), None, hashlib.sha256(content).hexdigest())
    return Claim(path, int(generation), owner, owner.token)


def create(path: Path, owner: Owner) -> bool:
    """Creates a lease file with its whole content; returns False if there is one of that name already."""
    with _temporary(path, owner) as written:
        try:
            os.link(written, path)
        except FileExistsError:
            # If the reply of a file server was lost, the file that the client finds on its second try is its own.
            found = read_claim(path, path.name.rpartition("-")[2])
            return found is not None and found.token == owner.token
        except OSError:
            return _create_without_links(path, written.read_bytes())
    return True


def _create_without_links(path: Path, content: bytes) -> bool:
    """Creates a lease file where there are no hard links: exclusive too, but its content comes a moment later."""
    try:
        with open(path, "xb", buffering=0) as file:
            try:
                file.write(content)
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        return False
    return True


def replace(path: Path, owner: Owner) -> None:
    """Replaces the content of a lease file in one step."""
    with _temporary(path, owner) as written:
        written.replace(path)


@contextlib.contextmanager
def _temporary(path: Path, owner: Owner) -> Iterator[Path]:
    """Creates a temporary file in a lease's directory with its content; removes it at the end."""
    temporary = path.with_name(f"{path.name}.{owner.token}.tmp")
    try:
        temporary.write_text(json.dumps(dataclasses.asdict(owner)), encoding="utf-8")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(lease: Path, name: str) -> None:
    """Removes temporary files of processes that were killed while they wrote one."""
    # Both times are the file system's own; nobody takes an hour to write a hundred bytes.
    old = lease.stat().st_mtime - 3600
    for path in lease.parent.glob(f".{name}.lease-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < old:
                path.unlink()
