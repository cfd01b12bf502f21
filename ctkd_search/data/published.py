"""Published files: found or downloaded by one process at a time, and compared with their checksums."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ctkd_search.config import DatasetConfig
from ctkd_search.data.registry import cache_directory
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.leases.lease import holder, try_acquire, wait_for
from ctkd_search.paths import expanded

_downloads: ContextVar[bool] = ContextVar("downloads", default=True)
# Name of the lease of the process that fetches or unpacks files into a directory.
_FETCHING = "fetching"


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """Refuses, inside the block, data sets that must be downloaded or unpacked first."""
    before = _downloads.set(False)
    try:
        yield
    finally:
        _downloads.reset(before)


def refuse_fetching(title: str, folder: Path) -> None:
    """Refuses to fetch files if nothing is to be downloaded.

    Args:
        title: Usual name of the data set.
        folder: Directory in which its files are missing.

    Raises:
        UserError: Nothing is to be downloaded or unpacked now.
    """
    if not _downloads.get():
        raise UserError(f"{title} is not in {folder} yet")


@contextlib.contextmanager
def fetching(title: str, root: Path) -> Iterator[None]:
    """Lets one process at a time fetch and unpack files; the block looks first whether another one has done so.

    Args:
        title: Usual name of the data set.
        root: Directory that they are brought to; made if missing.

    Raises:
        UserError: The directory cannot be written to.
    """
    purpose = f"a process that fetches {title}"
    lease = try_acquire(root, _FETCHING, purpose)
    if lease is None:
        owner = holder(root, _FETCHING) or "another process"
        watcher().note(f"{title} is being brought to {root} by {owner}; waiting for it")
        lease = wait_for(root, _FETCHING, purpose)
    with lease:
        yield


@contextlib.contextmanager
def unpacking(folder: Path) -> Iterator[Path]:
    """Gives a fresh directory beside a place, to unpack to and to rename from; use it inside `fetching`.

    So an unpacking that was interrupted is never used. What is left of it is removed by the next one.

    Args:
        folder: The place.

    Yields:
        The directory, which is removed at the end.
    """
    prefix = f".{folder.name}.unpacking"
    for left in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-", dir=folder.parent) as temporary:
        yield Path(temporary)


@dataclass(frozen=True)
class Published:
    """The files of a data set.

    Attributes:
        title: Usual name of the data set.
        root: Directory that they are brought to.
        folder: Directory of the files, the same or one inside it.
        checksums: MD5 of each file, by its name.
        download: Brings them; raises OSError or RuntimeError where that does not work.
        remedy: Instruction for the user, as the end of a sentence.
    """

    title: str
    root: Path
    folder: Path
    checksums: Mapping[str, str]
    download: Callable[[], None]
    remedy: str

    def ready(self, verify: bool) -> Path:
        """The folder with all the files, downloaded first if one is missing.

        Args:
            verify: Whether their checksums must be the published ones.

        Raises:
            UserError: They are missing and cannot be downloaded, or are others than those published.
        """
        if missing := self._missing():
            refuse_fetching(self.title, self.folder)
            try:
                with fetching(self.title, self.root):
                    # Another process may have brought them meanwhile.
                    if missing := self._missing():
                        self.download()
            except (OSError, RuntimeError, UserError) as error:
                raise UserError(
                    f"{self.title} is not in {self.folder} (missing: {', '.join(missing)}) and could not be downloaded "
                    f"({error}); {self.remedy}"
                ) from None
        if verify:
            for name, published in self.checksums.items():
                check_md5(self.folder / name, published, f"remove {self.folder / name}")
        return self.folder

    def _missing(self) -> list[str]:
        return [name for name in self.checksums if not (self.folder / name).is_file()]


def download(url: str, path: Path, md5: str) -> None:
    """Downloads a file, unless it exists already; an incomplete or a different file never gets its name.

    Args:
        url: Its address.
        path: Its path; missing directories are created.
        md5: Its checksum.

    Raises:
        OSError: It cannot be downloaded or written.
        RuntimeError: The downloaded file has another checksum.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    if check_integrity(str(path), md5):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        download_url(url, temporary, path.name, md5)
        (Path(temporary) / path.name).replace(path)


def check_md5(path: Path, published: str, removal: str) -> None:
    """Compares a file with its published checksum.

    Args:
        path: The file.
        published: Its MD5.
        removal: Instruction to remove the wrong file.

    Raises:
        UserError: It is not the published file.
    """
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(path), published):
        raise UserError(
            f"{path} does not have its published checksum (md5 {published}); {removal} to download it again, or set "
            "dataset.verify to false if you made these files yourself"
        )


def root_of(config: DatasetConfig) -> Path:
    """Returns the directory that the space names, or the default one."""
    return Path(expanded(config.root)) if config.root else cache_directory() / config.name


def root_problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    """Yields the faults of the directory for downloads."""
    if config.root and (root := root_of(config)).exists() and not root.is_dir():
        yield "root", f"must be a directory, but {root} is a file"
