"""A base class of objects that exist only in the driver's process."""

from __future__ import annotations

from typing import Any, Self


class DriverOnly:
    """Base class of objects with files, databases and threads, which cannot be pickled.

    Ray pickles the objects that it is given into snapshots of its experiment. Snapshots are never read here, so they
    contain a placeholder for such an object.
    """

    def __reduce__(self) -> Any:
        """Pickles as a placeholder."""
        return str, (f"{type(self).__name__}, which stays in its process",)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Returns the object itself, because a copy in the same process is not needed."""
        return self
