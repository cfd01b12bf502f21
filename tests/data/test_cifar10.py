"""CIFAR-10's files: read as published, and answered with a sentence when they are anything else."""

import io
import os
import pickle
import pickletools

import numpy as np
import pytest
from support.layouts import CIFAR_CLASSES, cifar10_config, random_pixels, write_batch, write_cifar10
from torchvision.datasets import CIFAR10

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.errors import UserError

FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]


class Attack:
    """What a pickle would do that must not be trusted: calls a function with arguments of its choice."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def no_network(monkeypatch):
    """Nothing listens there, so that a download fails at once."""
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


def load(root):
    """Everything that a search and its final training read."""
    return data.load_train(cifar10_config(root)), data.load_test(cifar10_config(root))


def test_images_are_read_in_the_order_of_the_batches(tmp_path):
    train = random_pixels(50, 32, seed=3), np.arange(50) % 10
    test = random_pixels(20, 32, seed=4), np.arange(20)[::-1] % 10
    write_cifar10(tmp_path, train, test)
    loaded = data.describe("cifar10").load_train(cifar10_config(tmp_path))
    assert loaded.classes == CIFAR_CLASSES
    for images, (pixels, labels) in ((loaded.train, train), (data.load_test(cifar10_config(tmp_path)), test)):
        assert np.array_equal(images.pixels, pixels)
        assert np.array_equal(images.labels, labels)
        assert images.pixels.flags["C_CONTIGUOUS"]


def test_labels_kept_as_an_array_are_read_as_well(tmp_path):
    folder = write_cifar10(tmp_path)
    before = data.load_test(cifar10_config(tmp_path))
    batch = pickle.loads((folder / "test_batch").read_bytes())
    for protocol in (2, 4, 5):
        arrays = {"data": batch["data"], "labels": np.array(batch["labels"])}
        (folder / "test_batch").write_bytes(pickle.dumps(arrays, protocol))
        assert data.load_test(cifar10_config(tmp_path)).fingerprint() == before.fingerprint()


def as_python2_wrote_it(pickled):
    """A protocol 3 pickle with Python 2's strings and NumPy 1's modules, as in the published files."""
    strings = {"BINBYTES", "SHORT_BINBYTES", "BINUNICODE"}
    operations = list(pickletools.genops(pickled))
    ends = [start for _, _, start in operations[1:]] + [len(pickled)]
    written = b""
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        if operation.name in strings:
            text = argument.encode() if isinstance(argument, str) else argument
            written += b"T" + len(text).to_bytes(4, "little") + text
        else:
            written += pickled[start:end].replace(b"numpy._core.", b"numpy.core.")
    return written.replace(b"\x80\x03", b"\x80\x02", 1)


def test_files_that_python_2_and_numpy_1_wrote_are_read(tmp_path):
    folder = write_cifar10(tmp_path)
    before, test_before = load(tmp_path)
    for name in FILES:
        content = pickle.loads((folder / name).read_bytes())
        (folder / name).write_bytes(as_python2_wrote_it(pickle.dumps(content, protocol=3)))
        assert b"numpy._core" not in (folder / name).read_bytes()
    after, test_after = load(tmp_path)
    assert after.fingerprint == before.fingerprint
    assert after.classes == before.classes
    assert test_after.fingerprint() == test_before.fingerprint()


@pytest.mark.usefixtures("no_network")
def test_missing_files_without_a_network_are_all_named_with_their_directory(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load_train(DatasetConfig("cifar10", root=str(tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere" / "cifar-10-batches-py") in str(caught.value)
    assert f"missing: {', '.join(FILES)})" in str(caught.value)
    assert CIFAR10.filename in str(caught.value)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", FILES)
def test_one_missing_file_without_a_network_is_named(tmp_path, name):
    (write_cifar10(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=rf"missing: {name}\)"):
        load(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_root_defaults_to_the_user_s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        data.load_train(DatasetConfig("cifar10"))
    assert str(tmp_path / "ctkd-search" / "cifar10" / "cifar-10-batches-py") in str(caught.value)


@pytest.mark.parametrize("verify", [True, None])
def test_files_without_the_published_checksum_are_refused(tmp_path, verify):
    folder = write_cifar10(tmp_path)
    for read in (data.load_train, data.load_test):
        with pytest.raises(UserError) as caught:
            read(DatasetConfig("cifar10", root=str(tmp_path), verify=verify))
        assert str(folder / "data_batch_1") in str(caught.value)
        assert dict(map(tuple, CIFAR10.train_list))["data_batch_1"] in str(caught.value)
        assert "dataset.verify" in str(caught.value)


def _batch(pixels=4, labels=(0, 1, 2, 3)):
    rows = np.zeros((pixels, 3072), np.uint8)
    return pickle.dumps({"data": rows, "labels": list(labels)}, protocol=2)


def _resaved(change):
    return pickle.dumps(change(pickle.loads(_batch())), protocol=2)


BROKEN = {
    "empty": b"",
    "text": b"<html>404 Not Found</html>",
    "an opcode without a stack": b"0",
    "a call without a function": b"R.",
    "an unknown memo": b"h\x05.",
    "an unknown module": b"cnumpy.nosuch\ndtype\n.",
    "an unknown encoding": pickle.dumps({"data": b"x"}, protocol=2).replace(b"latin1", b"latin9"),
    "a length beyond memory": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
    "a list": pickle.dumps([1, 2]),
    "a number": pickle.dumps(3),
    "no labels": _resaved(lambda batch: {"data": batch["data"]}),
    "labels that are words": _resaved(lambda batch: batch | {"labels": ["cat"] * 4}),
    "rows that are too short": _resaved(lambda batch: batch | {"data": batch["data"][:, :-1]}),
    "more images than labels": _batch(pixels=5),
    "a label of no class": _batch(labels=(0, 1, 2, 10)),
    "a negative label": _batch(labels=(0, 1, 2, -1)),
}


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_broken_file_is_named(tmp_path, name, content):
    path = write_cifar10(tmp_path) / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)


def test_file_cut_off_anywhere_is_named(tmp_path):
    path = tmp_path / "batch"
    write_batch(path, random_pixels(2, 32), [0, 1])
    whole = path.read_bytes()
    folder = write_cifar10(tmp_path)
    for length in [*range(0, 200, 7), len(whole) - 40, len(whole) - 1]:
        (folder / "test_batch").write_bytes(whole[:length])
        with pytest.raises(UserError, match="test_batch"):
            data.load_test(cifar10_config(tmp_path))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_pickle_that_calls_a_function_is_refused_and_nothing_is_called(tmp_path, name, protocol):
    path, proof = write_cifar10(tmp_path) / name, tmp_path / "was-here"
    for attack in (Attack(os.system, f"touch {proof}"), Attack(eval, f"open({str(proof)!r}, 'w')")):
        path.write_bytes(pickle.dumps({"data": attack, "labels": [0], "label_names": attack}, protocol))
        with pytest.raises(UserError, match="is not part of a CIFAR batch"):
            load(tmp_path)
        assert not proof.exists()
    # The very same bytes do what they say where pickles are trusted, or this test would show nothing.
    pickle.load(io.BytesIO(path.read_bytes()))
    assert proof.exists()


@pytest.mark.parametrize("module", ["numpy.f2py.__main__", "numpy.testing.tests.test_utils"])
def test_pickle_cannot_run_a_module_by_importing_it(tmp_path, module):
    (write_cifar10(tmp_path) / "test_batch").write_bytes(f"c{module}\ndtype\n.".encode())
    with pytest.raises(UserError, match="is not part of a CIFAR batch"):
        data.load_test(cifar10_config(tmp_path))


def test_root_that_is_a_file_is_a_problem_of_that_key(tmp_path):
    (tmp_path / "file").write_text("")
    found = data.problems(DatasetConfig("cifar10", root=str(tmp_path / "file")))
    assert [key for key, _ in found] == ["root"]


@pytest.mark.parametrize("names", [["cat"], [], [f"class {number}" for number in range(11)]])
def test_wrong_number_of_class_names_is_refused(tmp_path, names):
    folder = write_cifar10(tmp_path)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(UserError, match=f"{len(names)} classes instead of 10"):
        data.load_train(cifar10_config(tmp_path))
