"""Records: whole or not there, whatever happens to the file."""

import multiprocessing
import os
import resource

import numpy as np
import pytest
import torch
from support.processes import PIPE, Process

from ctkd_search import record_file
from ctkd_search.distill.cache import TeacherCache, content_hash

NAME = "entry-1/record"


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path)


def path_of(cache):
    return cache.directory / f"{NAME}.rec"


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(7, 3), (1,), (0, 5), (2, 3, 4)])
def test_arrays_come_back_as_they_were(cache, dtype, shape):
    array = (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    cache.write(NAME, array, {"what": "numbers"})
    back = cache.read_array(NAME)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert cache.about(NAME)["what"] == "numbers"


def test_an_array_that_is_not_contiguous_comes_back_too(cache):
    array = np.arange(24).reshape(4, 6)[:, ::2].T
    cache.write(NAME, array)
    np.testing.assert_array_equal(cache.read_array(NAME), array)


def test_arrays_are_mapped_and_not_read(cache):
    cache.write(NAME, np.zeros((1000, 10), dtype=np.float32))
    assert isinstance(cache.read_array(NAME), np.memmap)


def test_writing_into_what_was_read_changes_no_file(cache):
    cache.write(NAME, np.zeros(5))
    cache.read_array(NAME)[:] = 1
    np.testing.assert_array_equal(cache.read_array(NAME), np.zeros(5))


def test_states_come_back_as_they_were(cache):
    state = {"epoch": 3, "weights": {"a": torch.arange(4.0)}, "momentum": [torch.ones(2)]}
    cache.write_state(NAME, state)
    back = cache.read_state(NAME)
    assert back["epoch"] == 3
    assert torch.equal(back["weights"]["a"], torch.arange(4.0))


def test_what_was_never_written_is_not_there(cache):
    assert cache.read_array(NAME) is None
    assert cache.read_bytes(NAME) is None
    assert NAME not in cache


def damaged(content, how):
    middle = len(content) // 2
    return {
        "truncated": content[:middle],
        "a byte short": content[:-1],
        "a byte more": content + b"x",
        "emptied": b"",
        "a bit of the content": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
        "a bit of the header": content[:70] + bytes([content[70] ^ 1]) + content[71:],
        "a bit of the length": content[:12] + bytes([content[12] ^ 1]) + content[13:],
        "another file": b"\x93NUMPY" + content,
        "zeros": bytes(len(content)),
    }[how]


HOWS = [
    "truncated",
    "a byte short",
    "a byte more",
    "emptied",
    "a bit of the content",
    "a bit of the header",
    "a bit of the length",
    "another file",
    "zeros",
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_damaged_record_is_not_believed(cache, how, seen_before):
    cache.write(NAME, np.arange(1000.0))
    if seen_before:
        assert cache.read_array(NAME) is not None
    path = path_of(cache)
    path.write_bytes(damaged(path.read_bytes(), how))
    # Two writes within the clock's resolution would look alike; real ones are further apart.
    os.utime(path, ns=(1, 1))
    assert cache.read_array(NAME) is None
    assert NAME not in cache
    cache.write(NAME, np.arange(1000.0))
    assert NAME in cache


def test_a_process_without_file_descriptors_does_not_call_a_record_damaged(cache):
    cache.write("entry/numbers", np.arange(5.0))
    cache.write("entry/bytes", b"some")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        for read, name in ((cache.read_array, "entry/numbers"), (cache.read_bytes, "entry/bytes")):
            with pytest.raises(OSError, match="Too many open files"):
                read(name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert cache.read_array("entry/numbers").tolist() == [0, 1, 2, 3, 4]


def test_a_process_without_memory_does_not_call_a_record_damaged(cache):
    cache.write("entry/numbers", np.zeros(10_000_000))
    code = """
import resource, sys
from pathlib import Path
from ctkd_search.distill.cache import TeacherCache
cache = TeacherCache(Path(sys.argv[1]))
assert cache.read_array("entry/numbers").shape == (10_000_000,)
resource.setrlimit(resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
try:
    print(cache.read_array("entry/numbers"))
except (OSError, MemoryError) as error:
    print("no memory")
"""
    ran = Process((str(cache.directory),), code, stdout=PIPE)
    assert ran.communicate()[0] == "no memory\n"
    assert ran.returncode == 0


def test_every_byte_of_a_record_is_covered_but_for_the_padding(cache):
    cache.write(NAME, np.arange(3, dtype=np.uint8))
    path = path_of(cache)
    whole = path.read_bytes()
    believed = []
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        os.utime(path, ns=(position + 2, position + 2))
        if NAME in cache:
            believed.append(position)
    prefix = len(record_file._MAGIC) + 8 + 32
    assert believed == list(range(prefix, record_file._ALIGNMENT))


def test_a_temporary_file_left_by_a_killed_writer_is_no_record(cache):
    path = path_of(cache)
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.abc123").write_bytes(b"half")
    assert NAME not in cache
    cache.write(NAME, b"whole")
    assert cache.read_bytes(NAME) == b"whole"


def _write_and_read(directory, number, failures):
    cache = TeacherCache(directory)
    expected = np.arange(20_000, dtype=np.float32)
    for _ in range(30):
        cache.write(NAME, expected)
        found = cache.read_array(NAME)
        if found is None or not np.array_equal(found, expected):
            failures.put(number)


def test_many_writers_and_readers_never_see_half_a_record(tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.SimpleQueue()
    workers = [context.Process(target=_write_and_read, args=(tmp_path, n, failures)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert failures.empty()
    assert [path.name for path in (tmp_path / "entry-1").iterdir()] == ["record.rec"]


def test_a_hash_depends_on_every_part_and_not_on_their_order():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert len({content_hash(parts) for parts in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": None})}) == 4


def test_the_index_lists_descriptions_sizes_and_last_users_of_entries(cache):
    cache.write("maps-1/maps-0000", np.zeros(10_000, dtype=np.uint8))
    cache.index.describe("maps-1", {"kind": "maps"})
    cache.write("teacher-1/expert", b"x")
    TeacherCache(cache.directory, "first").note_use("maps-1")
    TeacherCache(cache.directory, "second").note_use("maps-1")
    TeacherCache(cache.directory, "third").note_use("not-there")
    maps, teacher = cache.index.all()
    assert (maps.id, maps.about, maps.search) == ("maps-1", {"kind": "maps"}, "second")
    assert 10_000 < maps.bytes < 11_000
    assert teacher.search == "?"
    assert cache.index.size("maps") == maps.bytes
    cache.index.remove("maps-1")
    assert [entry.id for entry in cache.index.all()] == ["teacher-1"]
