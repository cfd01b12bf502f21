"""Objects that stay in the driver's process."""

from __future__ import annotations

from typing import Any, Self


class DriverOnly:
    """Holds files, databases and threads, which do not go into a pickle.

    Ray pickles whatever it is given into snapshots of its experiment. Nothing is ever read from them here, so what
    stands for such an object there is a placeholder.
    """

    def __reduce__(self) -> Any:
        """Pickles as a placeholder."""
        return str, (f"{type(self).__name__}, which stays in its process",)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy in the same process is the object itself."""
        return self
