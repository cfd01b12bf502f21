"""Data sets are downloaded from where they are published, here from this machine: small files of the same formats."""

import contextlib
import functools
import hashlib
import http.server
import tarfile
import threading

import pytest
from support.layouts import (
    CIFAR100_CLASSES,
    CIFAR_CLASSES,
    FOLDER_CLASSES,
    write_cifar10,
    write_cifar100,
    write_svhn,
    write_tiny_imagenet,
    zipped,
)
from support.owners import at_once
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data.sets import tiny_imagenet
from ctkd_search.errors import UserError


@pytest.fixture
def published(tmp_path):
    """A directory that a server on this machine hands out, and its address; with what was asked for."""
    directory = tmp_path / "published"
    directory.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            server.asked.append(self.path)

        def copyfile(self, source, outputfile):
            # Torchvision asks twice, and the first time only to be redirected.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                super().copyfile(source, outputfile)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory))
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield directory, f"http://127.0.0.1:{server.server_port}", server.asked
    server.shutdown()
    server.server_close()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def publish_cifar(monkeypatch, published, known, folder):
    """Puts a CIFAR archive where torchvision looks for it, with checksums of its own."""
    directory, address, _ = published
    with tarfile.open(directory / known.filename, "w:gz") as archive:
        archive.add(folder, folder.name)
    monkeypatch.setattr(known, "url", f"{address}/{known.filename}")
    monkeypatch.setattr(known, "tgz_md5", md5(directory / known.filename))
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(known, files, [[name, md5(folder / name)] for name, _ in getattr(known, files)])
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": md5(folder / known.meta["filename"])})


def publish_cifar10(monkeypatch, published):
    publish_cifar(monkeypatch, published, CIFAR10, write_cifar10(published[0]))
    return DatasetConfig("cifar10"), 1, CIFAR_CLASSES


def publish_cifar100(monkeypatch, published):
    publish_cifar(monkeypatch, published, CIFAR100, write_cifar100(published[0]))
    return DatasetConfig("cifar100"), 1, CIFAR100_CLASSES


def publish_svhn(monkeypatch, published, **options):
    directory, address, _ = published
    write_svhn(directory, train=60, test=20, extra=40)
    files = {split: f"{split}_32x32.mat" for split in ("train", "test", "extra")}
    known = {split: [f"{address}/{name}", name, md5(directory / name)] for split, name in files.items()}
    monkeypatch.setattr(SVHN, "split_list", known)
    return DatasetConfig("svhn", **options), 3 if options else 2, tuple("0123456789")


def publish_tiny_imagenet(monkeypatch, published):
    archive = zipped(write_tiny_imagenet(published[0]))
    monkeypatch.setattr(tiny_imagenet, "_URL", f"{published[1]}/{archive.name}")
    monkeypatch.setattr(tiny_imagenet, "_MD5", md5(archive))
    for name, count in (("_CLASSES", 3), ("_PER_CLASS", 6), ("_TEST_PER_CLASS", 6)):
        monkeypatch.setattr(tiny_imagenet, name, count)
    # In the order of the identifiers; two have the same first word.
    return DatasetConfig("tiny-imagenet"), 1, ("crane (n02085620)", "Egyptian cat", "crane (n03126707)")


PUBLISHED = {
    "cifar10": publish_cifar10,
    "cifar100": publish_cifar100,
    "svhn": publish_svhn,
    "svhn with extra": functools.partial(publish_svhn, extra=True),
    "tiny-imagenet": publish_tiny_imagenet,
}


def test_every_data_set_that_is_downloaded_is_tested():
    downloaded = {name for name in data.names() if "downloaded on first use" in data.describe(name).summary}
    assert {name.split(" ")[0] for name in PUBLISHED} == downloaded


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_missing_is_downloaded_once_and_compared_with_its_checksum(tmp_path, monkeypatch, published, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config, files, classes = PUBLISHED[name](monkeypatch, published)
    splits, test = data.load_train(config), data.load_test(config)
    assert splits.classes == classes
    assert splits.geometry == data.geometry(config)
    assert len(test) > 0
    assert len(set(published[2])) == files
    asked = len(published[2])
    # No part of an unpacking is left, and what is there is not asked for again.
    assert not list((tmp_path / "cache" / "ctkd-search" / config.name).glob(".*"))
    assert data.load_train(config).fingerprint == splits.fingerprint
    assert data.load_test(config).fingerprint() == test.fingerprint()
    assert len(published[2]) == asked


@pytest.mark.parametrize("name", PUBLISHED)
def test_of_two_that_begin_at_once_one_downloads_and_the_other_waits(tmp_path, monkeypatch, published, name):
    config, *_ = PUBLISHED[name](monkeypatch, published)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "alone"))
    expected = data.load_train(config).fingerprint
    alone = len(published[2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "both"))
    assert at_once(lambda: data.load_train(config).fingerprint) == [expected] * 2
    assert len(published[2]) == 2 * alone
    assert not list((tmp_path / "both" / "ctkd-search" / config.name).glob(".*"))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_one_file_that_is_missing_is_brought_again(tmp_path, monkeypatch, published, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config, *_ = PUBLISHED[name](monkeypatch, published)
    expected = data.load_train(config).fingerprint
    root = tmp_path / "ctkd-search" / name
    (folder,) = root.glob("cifar*/")
    left = root / f".{folder.name}.unpacking-x"
    left.mkdir()
    next(folder.glob("*meta")).unlink()
    assert data.load_train(config).fingerprint == expected
    assert not left.exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_download_of_something_else_is_refused_and_nothing_believed(tmp_path, monkeypatch, published, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config, *_ = PUBLISHED[name](monkeypatch, published)
    for path in published[0].iterdir():
        if path.is_file():
            path.write_bytes(b"<html>404 Not Found</html>")
    for _ in range(2):
        with pytest.raises(UserError, match="could not be downloaded"):
            data.load_train(config)
    assert not list((tmp_path / "cache" / "ctkd-search" / config.name).rglob("*"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_network_it_is_said_which_file_goes_where(tmp_path, monkeypatch, published, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config, *_ = PUBLISHED[name](monkeypatch, published)
    names = [path.name for path in published[0].iterdir() if path.suffix in (".gz", ".zip", ".mat")]
    for path in published[0].iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(UserError) as caught:
        data.load_train(config)
    message = str(caught.value)
    assert str(tmp_path / "cache" / "ctkd-search" / config.name) in message
    assert published[1] in message
    assert any(f"{name} (md5 {md5(tmp_path / name)}" in message for name in names)
    assert "\n" not in message


def test_the_real_checksums_are_those_of_torchvision_and_of_a_well_known_publisher():
    assert CIFAR100.tgz_md5 == "eb9058c3a382ffc7106e4002c42a8d85"
    assert {split: known[2] for split, known in SVHN.split_list.items()} == {
        "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test": "eb5a983be6a315427106f1b164d9cef3",
        "extra": "a93ce644f1a588dc4d68dda5feec44a7",
    }
    assert tiny_imagenet._MD5 == "90528d7ca1a48142e341f4ef8d21d0de"


@pytest.mark.parametrize("name", ["svhn", "svhn with extra", "tiny-imagenet", "cifar100"])
def test_files_made_by_somebody_else_are_refused_unless_verify_is_false(tmp_path, name):
    write_svhn(tmp_path, train=60, test=20, extra=40)
    write_tiny_imagenet(tmp_path)
    write_cifar100(tmp_path)
    extra = True if name.endswith("extra") else None
    for verify in (None, True):
        config = DatasetConfig(name.split(" ")[0], root=str(tmp_path), verify=verify, extra=extra)
        for load in (data.load_train, data.load_test):
            with pytest.raises(UserError, match=r"dataset\.verify to false"):
                load(config)
    config = DatasetConfig(name.split(" ")[0], root=str(tmp_path), verify=False, extra=extra, validation=0.2)
    assert len(data.load_train(config).train) > len(FOLDER_CLASSES)
