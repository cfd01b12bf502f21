"""The states of trials: read as they were written, or not at all."""

from __future__ import annotations

import errno
import io
import os
import random
import resource

import pytest
import torch

from ctkd_search.errors import UserError
from ctkd_search.records.states import is_readable, keep_only, read_state, state_path, student_state, write_state

STATE = {
    "student": {"weight": torch.arange(300.0).reshape(10, 30), "count": torch.tensor(7)},
    "random": torch.arange(5000).to(torch.uint8),
    "epoch": 3,
    "history": [{"epoch": 1, "validation_accuracy": 0.1 + 0.2, "loss": float("inf")}],
}


def same(one, other):
    """Whether two states are equal, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@pytest.fixture
def path(tmp_path):
    """A kept state."""
    kept = state_path(tmp_path / "states", 7)
    write_state(kept, STATE)
    return kept


def test_an_intact_state_is_read_as_it_was_written(path):
    assert path.name == "00007.pt"
    assert same(read_state(path), STATE)
    write_state(path, {**STATE, "epoch": 4})
    assert read_state(path)["epoch"] == 4
    assert [found.name for found in path.parent.iterdir()] == ["00007.pt"]


@pytest.mark.parametrize("room", [0, 1000, 4000])
def test_a_state_for_which_there_is_no_room_leaves_the_one_before_and_says_why(path, room):
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(UserError) as caught:
            write_state(path, {**STATE, "epoch": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"cannot write {path}: {os.strerror(errno.EFBIG)}"
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_missing_state_is_read_as_none(path):
    assert read_state(path.with_name("00008.pt")) is None
    assert read_state(path.parent.parent / "nowhere" / "00007.pt") is None


def test_a_flipped_bit_is_noticed_wherever_it_counts(path):
    whole, draw = path.read_bytes(), random.Random(0)
    unnoticed = 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = read_state(path)
        # Where the file has room that nobody reads, the state is what it was; nowhere is it another.
        assert found is None or same(found, STATE)
        unnoticed += found is not None
    assert unnoticed < 0.15 * len(range(0, len(whole), 5))


@pytest.mark.parametrize("key", ["random", "weight"])
def test_a_flipped_bit_of_a_tensor_is_always_noticed(path, key):
    tensor = STATE["random"] if key == "random" else STATE["student"]["weight"]
    content = tensor.numpy().tobytes()
    whole = path.read_bytes()
    begin = whole.index(content)
    for place in range(begin, begin + len(content), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert read_state(path) is None


def test_a_state_that_was_cut_off_is_noticed(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 31), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert read_state(path) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"PK\x03\x04", b"no archive at all", None], ids=str)
def test_what_is_no_state_is_none(path, content):
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert read_state(path) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "Too many open files"), MemoryError()]
)
def test_a_state_that_cannot_be_read_now_is_not_taken_for_none(path, monkeypatch, error):
    def fail(*words, **options):
        raise error

    monkeypatch.setattr(io, "open", fail)
    with pytest.raises(type(error)):
        read_state(path)
    assert not is_readable(path)
    with pytest.raises(UserError, match=f"the student of trial 7 cannot be read: {path}: .*; try again") as caught:
        student_state(path, 7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("x: can't allocate memory: you tried")])
def test_a_state_for_which_there_is_too_little_memory_is_not_damaged(path, monkeypatch, error):
    def fail(*words, **options):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        read_state(path)


class Harmful:
    """Something that is no plain data."""

    def __reduce__(self):
        return print, ("this must not be run",)


def test_nothing_is_run_that_a_file_asks_for(path, capsys):
    torch.save({"history": Harmful()}, path)
    assert read_state(path) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("numbers", "left"), [((), []), ((7,), [7]), ((2, 7, 99), [2, 7]), (range(100), [1, 2, 7])])
def test_only_the_states_that_are_needed_are_kept(path, numbers, left):
    for number in (1, 2):
        write_state(state_path(path.parent, number), STATE)
    (path.parent / "notes.txt").touch()
    keep_only(path.parent, set(numbers))
    assert sorted(int(found.stem) for found in path.parent.glob("*.pt")) == left
    assert (path.parent / "notes.txt").exists()
    keep_only(path.parent / "nowhere", set(numbers))
