"""One process owns a search, or a final training, as long as it works on it."""

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
        directory: Made if missing, and removed again if nothing was written to it.
        what: What is in it, for messages.
        purpose: What this process does with it, for the messages of others.
        say: Told what is waited for.

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
