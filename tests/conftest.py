"""Fixtures that more than one room's tests use."""

import os
import tarfile
from pathlib import Path

import pytest
from support import here

from ctkd_search import cli

# Test files run beside each other: torch's threads would wait for each other's cores. Searches set threads themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor do the processes of trials wait for those of other tests.
os.environ.setdefault("RAY_worker_niceness", "0")

REPOSITORY = Path(__file__).resolve().parents[1]
CIFAR_ARCHIVE = REPOSITORY.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"
CIFAR_IMAGES_A_CLASS = 8


def pytest_collection_modifyitems(items):
    """Long tests first: the short ones fill the time in which the last of them end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session", autouse=True)
def _shared_by_tests(tmp_path_factory):
    """Shares files among the processes of one run, and one Ray among the tests of a process."""
    base = tmp_path_factory.getbasetemp()
    here.share_files_in(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    yield
    here.stop_ray()


@pytest.fixture
def own_directory(tmp_path, monkeypatch):
    """Works in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def _own_images(tmp_path_factory):
    """A folder of a user's own images, one class of which has fewer."""
    from support.layouts import FOLDER_CLASSES, write_folder

    root = tmp_path_factory.mktemp("my-images")
    write_folder(root, splits=("train",), images=10)
    for path in sorted((root / "train" / FOLDER_CLASSES[0]).iterdir())[5:]:
        path.unlink()
    return root


@pytest.fixture
def shipped(own_directory, _own_images):
    """Works in a directory in which every shipped space can be read: it has the images that some of them name."""
    Path("my-images").symlink_to(_own_images)


@pytest.fixture
def call(capsys):
    """Runs a command in this process; gives its exit code, what it printed, and its complaints."""

    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main(list(map(str, words)))
        except SystemExit as end:  # argparse's own way out
            code = end.code
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def single_thread():
    """Computes on one thread, which is fastest for tiny networks."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cifar_jpeg(tmp_path_factory):
    """A directory of real photographs, `CIFAR_IMAGES_A_CLASS` of each CIFAR-10 class: train/<class>/ and test/<class>/.

    Tests that use it are marked `slow`.
    """
    if not CIFAR_ARCHIVE.is_file():
        pytest.skip(f"the JPEG copy of CIFAR-10 is not in {CIFAR_ARCHIVE}")
    root = tmp_path_factory.mktemp("cifar-jpeg")
    wanted = {f"{number:04d}.jpg" for number in range(CIFAR_IMAGES_A_CLASS)}
    # Python before 3.11.4, such as that of Debian 12, has no filters.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(CIFAR_ARCHIVE, mode="r|xz") as archive:
        for member in archive:
            if member.isfile() and Path(member.name).name in wanted:
                archive.extract(member, root, **safely)
    return root


def _forget_mlflow():
    """Removes what the user of this machine, or MLflow itself in an earlier test, has set."""
    for name in ("URI", "TOKEN", "USERNAME", "PASSWORD"):
        os.environ.pop(f"MLFLOW_TRACKING_{name}", None)


# Before any fixture of a module begins a search.
_forget_mlflow()


@pytest.fixture(autouse=True)
def _no_mlflow_elsewhere():
    """No test hears of another one's tracking server."""
    yield
    _forget_mlflow()
