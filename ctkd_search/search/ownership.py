"""The ownership of a search or a final training by the process that works on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ctkd_search.leases.lease import Lease, acquire

OWNER = "owner"


@contextlib.contextmanager
def owned(directory: Path, what: str, purpose: str, say: Callable[[str], None]) -> Iterator[Lease]:
    """Owns a directory while the block runs.

    Args:
        directory: The directory; made if missing, and removed again if nothing was written to it.
        what: The name of its content, for messages.
        purpose: The command of this process, for the messages of other processes.
        say: Prints a line while another process is waited for.

    Raises:
        Held: Another process owns it.
        UserError: It cannot be written to.
    """
    lease = acquire(directory, OWNER, purpose, what=what, say=say)
    try:
        yield lease
    finally:
        lease.release()
        with contextlib.suppress(OSError):
            directory.rmdir()
