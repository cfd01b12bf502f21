"""The list and the removals of `ctkd-search cache`."""

import json
import os
import time

import pytest
from support.owners import elsewhere, impatient

from ctkd_search.cache_index import CacheIndex
from ctkd_search.cli import main
from ctkd_search.leases.lease import acquire

TEACHER, MAPS = "teacher-0123456789abcdef01234567", "maps-0123456789abcdef01234567"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(["cache", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def teachers(tmp_path):
    """A cache with a teacher that was used today, and maps that were used forty days ago."""
    root = tmp_path / "trials" / "teachers"
    for name, about, search, days, content in (
        (TEACHER, {"kind": "teacher", "architecture": "wrn-40-2", "epochs": 60, "seed": 0}, "today", 0, 3_000),
        (MAPS, {"kind": "maps", "architecture": "wrn-40-2"}, "long-ago", 40, 5_000_000),
    ):
        (root / name).mkdir(parents=True)
        (root / name / "about.json").write_text(json.dumps(about))
        (root / name / "used.json").write_text(json.dumps({"search": search, "time": time.time() - 86400 * days}))
        (root / name / "a.rec").write_bytes(bytes(content))
    return root


@pytest.mark.parametrize("text", ['{"kind": "tea', "[1]", "7", "null", '{"kind": [1]}', "\x00"])
def test_a_teacher_whose_description_is_damaged_is_unknown_and_the_others_are_as_they_are(call, teachers, text):
    (teachers / TEACHER / "about.json").write_text(text)
    code, out, err = call()
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "unknown" in lines[TEACHER]
    assert "attention maps of wrn-40-2" in lines[MAPS]


@pytest.mark.parametrize(
    "text",
    ['{"search": "to', "[1]", "7", '{"search": 5, "time": "x"}', '{"search": {}, "time": 1e30}', '{"time": NaN}'],
)
def test_a_teacher_whose_use_is_damaged_was_used_when_it_was_written(call, teachers, text):
    (teachers / TEACHER / "used.json").write_text(text)
    os.utime(teachers / TEACHER, (1e9, 1e9))
    code, out, err = call()
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if TEACHER in line]
    assert " ? " in line
    assert "2001-09-0" in line
    assert "long-ago" in out


def test_an_empty_cache_is_reported_to_be_empty(call):
    code, out, _ = call()
    assert code == 0
    assert "the teacher cache in trials/teachers is empty" in out


def test_the_list_shows_kind_size_and_last_user_the_largest_first(call, teachers):
    code, out, _ = call()
    assert code == 0
    maps, teacher = [line for line in out.splitlines() if "wrn-40-2" in line]
    assert MAPS in maps
    assert "attention maps of wrn-40-2" in maps
    assert "5 MB" in maps
    assert "long-ago" in maps
    assert "teacher wrn-40-2, 60 epochs, seed 0" in teacher
    assert "today" in teacher
    assert "5 MB in all" in out
    assert call("list")[1] == out


def test_the_list_shows_the_form_of_stored_pictures(call, teachers):
    for number, form in enumerate(({"side": 256, "encoding": "jpeg"}, {"encoding": "pixels"})):
        store = teachers / f"pictures-{number}"
        store.mkdir()
        about = {"kind": "pictures", "what": "training images", "pictures": 7, "size": 224, "channels": 3, **form}
        (store / "about.json").write_text(json.dumps(about))
    out = call()[1]
    assert "7 training images decoded, whole, shorter side 256 px at most, jpeg" in out
    assert "7 training images decoded, 224x224 px" in out


def test_remove_deletes_the_entries_named_and_keeps_the_rest(call, teachers):
    code, out, _ = call("remove", MAPS)
    assert code == 0
    assert "removed 1 of 2, 5 MB" in out
    assert [path.name for path in teachers.iterdir()] == [TEACHER]


def test_remove_unused_for_deletes_what_was_not_used_that_long(call, teachers):
    assert "removed 0 of 2" in call("remove", "--unused-for", "41d")[1]
    assert "removed 1 of 2" in call("remove", "--unused-for", "30d")[1]
    assert [path.name for path in teachers.iterdir()] == [TEACHER]


def test_remove_all_empties_the_cache(call, teachers):
    assert "removed 2 of 2" in call("remove", "--all")[1]
    assert list(teachers.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove"], "nothing was named to be removed"),
        (["remove", "nothing-here"], "the cache has no entry nothing-here"),
        (["remove", "../teachers"], "the cache has no entry ../teachers"),
        (["remove", "--unused-for", "soon"], "must be a duration"),
        (["--all"], "ctkd-search cache remove"),
    ],
)
def test_remove_refuses_mistaken_words_and_removes_nothing(call, teachers, words, message):
    code, _, err = call(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert len(list(teachers.iterdir())) == 2


def test_what_is_being_recorded_is_not_removed(call, teachers):
    with acquire(teachers / TEACHER, "training", "the training of a teacher", what="it"):
        code, _, err = call("remove", TEACHER)
        assert code == 2
        assert f"{TEACHER} is being recorded by process {os.getpid()} on" in err
        code, out, _ = call("remove", "--all")
        assert code == 0
        assert f"kept {TEACHER}, which is being recorded by process {os.getpid()}" in out
        assert "removed 1 of 2" in out
        assert (teachers / TEACHER / "a.rec").exists()
    assert call("remove", "--all")[0] == 0
    assert not (teachers / TEACHER).exists()


@pytest.mark.parametrize("words", [(), ("remove", MAPS)], ids=["list", "remove"])
def test_what_an_interrupted_removal_and_a_killed_writer_left_is_removed_an_hour_later(call, teachers, words):
    for age, at in (("old", time.time() - 4000), ("young", time.time() - 10)):
        remains, record = teachers / f".maps-{age}.removed-7", teachers / TEACHER / f".a.rec.{age}"
        remains.mkdir()
        for path in (remains / "a.rec", record):
            path.write_bytes(bytes(2_000_000))
        for path in (remains, record):
            os.utime(path, (at, at))
    lease = teachers / TEACHER / ".training.lease-00000001"
    lease.touch()
    os.utime(lease, (1e9, 1e9))
    code, out, _ = call(*words)
    assert code == 0
    assert "removed what interrupted removals and killed searches had left, 4 MB\n" in out
    assert [path.name for path in teachers.glob(".*")] == [".maps-young.removed-7"]
    assert sorted(path.name for path in (teachers / TEACHER).glob(".*")) == [".a.rec.young", lease.name]
    assert "had left" not in call()[1]


def test_a_removal_that_is_at_work_is_left_alone(teachers, monkeypatch):
    os.utime(teachers / MAPS, (1e9, 1e9))
    index, removing = CacheIndex(teachers), []

    def remove(path):
        removing.append(path)
        assert index.remove_leftovers() == 0

    monkeypatch.setattr("shutil.rmtree", remove)
    index.remove(MAPS)
    assert len(removing) == 1


@pytest.mark.parametrize("words", [(TEACHER, MAPS), ("--all",)], ids=["named", "all"])
def test_what_a_process_elsewhere_recorded_that_died_is_removed_after_one_wait(call, teachers, monkeypatch, words):
    impatient(monkeypatch)
    for name in (TEACHER, MAPS):
        elsewhere(teachers / name, name="training")
    code, out, _ = call("remove", *words)
    assert code == 0
    assert out.count("was started by process") == out.count("waiting up to") == 1
    assert "removed 2 of 2" in out
    assert list(teachers.iterdir()) == []
