"""The journal of Optuna's study: killed in any place, on a full disk, damaged, read while it is written."""

import builtins
import errno
import json
import os

import optuna
import pytest
from support.studies import study_of

from ctkd_search.errors import UserError
from ctkd_search.search.study_file import read_storage, study_storage


@pytest.fixture
def path(tmp_path):
    (tmp_path / "small").mkdir()
    return tmp_path / "small" / "study.log"


def begun(path):
    return optuna.create_study(study_name="small", storage=study_storage(path), load_if_exists=True)


def a_trial(study, value):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(value, 1)
    study.tell(trial, value)


def kept(path):
    return study_of(path.parent.parent, "small").trials


def test_other_programs_open_it_and_it_goes_on_where_it_was(path):
    for number in range(3):
        a_trial(begun(path), number / 10)
    assert [trial.value for trial in kept(path)] == [0.0, 0.1, 0.2]
    assert [trial.value for trial in begun(path).trials] == [0.0, 0.1, 0.2]
    assert [entry.name for entry in path.parent.iterdir()] == ["study.log"]


@pytest.mark.parametrize("left", [1, 20, -1], ids=["one byte", "some", "all but the line's end"])
def test_half_a_line_of_a_process_that_was_killed_is_cut_off(path, left):
    study = begun(path)
    a_trial(study, 0.5)
    whole = path.read_bytes()
    a_trial(study, 0.75)
    line = path.read_bytes()[len(whole) :].splitlines(keepends=True)[0]
    path.write_bytes(whole + line[:left])
    again = begun(path)
    assert [trial.value for trial in again.trials] == [0.5]
    # Opening it again has noted that the study is there.
    assert path.read_bytes().startswith(whole + b'{"op_code":0')
    a_trial(again, 0.25)
    assert [trial.value for trial in kept(path)] == [0.5, 0.25]


def test_somebody_who_reads_it_meanwhile_sees_the_whole_lines_and_cuts_nothing(path):
    a_trial(begun(path), 0.5)
    with open(path, "ab") as writing:
        writing.write(b'{"op_code": 4, "wor')
    before = path.read_bytes()
    study = optuna.load_study(study_name="small", storage=read_storage(path))
    assert [trial.value for trial in study.trials] == [0.5]
    assert path.read_bytes() == before


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_no_half_of_it(path, monkeypatch):
    study = begun(path)
    a_trial(study, 0.5)
    before = path.read_bytes()
    trial = study.ask()
    asked = path.read_bytes()
    real = builtins.open

    class Full:
        """A file on a disk that has room for ten more bytes."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[:10])
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", lambda *a, **k: Full(real(*a, **k)) if "ab" in a else real(*a, **k))
        with pytest.raises(OSError, match="No space left"):
            trial.report(0.1, 1)
    assert path.read_bytes() == asked
    assert len(asked) > len(before)
    trial.report(0.2, 1)
    study.tell(trial, 0.2)
    assert [(trial.value, trial.intermediate_values) for trial in kept(path)] == [(0.5, {1: 0.5}), (0.2, {1: 0.2})]


# Lines of a study become those of a damaged one.
DAMAGES = {
    "a line that is no JSON": lambda lines: [*lines[:2], b"{{{\n", *lines[2:]],
    "a line of something else": lambda lines: [*lines[:2], b"[1, 2]\n", *lines[2:]],
    "a line without what it needs": lambda lines: [*lines[:2], b'{"op_code": 4}\n', *lines[2:]],
    "an operation that there is not": lambda lines: [*lines[:2], b'{"op_code": 99}\n', *lines[2:]],
    "bytes that are no text": lambda lines: [lines[0] + b"\xff\xfe\x00\n", *lines[1:]],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("opens", [study_storage, read_storage])
def test_a_damaged_one_is_refused_by_its_name(path, damage, opens):
    a_trial(begun(path), 0.5)
    assert all(isinstance(json.loads(line), dict) for line in path.read_bytes().splitlines())
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UserError, match=r"the study .*study\.log is damaged \(.+\); begin the search again") as told:
        opens(path)
    assert "\n" not in str(told.value)
