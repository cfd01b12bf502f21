"""Commands that only look, where one of a search's records is damaged."""

import json

import pytest
from support.factories import a_search, a_space, a_trial


@pytest.fixture
def damaged(own_directory, tmp_path):
    """The directory of records of a search of two trials, of which the second is cut short."""
    space = a_space(budget={"trials": 2}, search={"pair": "wrn-16-1/resnet8", "alpha": {"float": [0.1, 1]}})
    stored = {**space.paper_point(), "alpha": 0.5}
    measured = {"validation_loss": 1.0, "seconds": 2.0}
    trials = [a_trial(number, 0.5, space=space, stored=stored, measured=measured) for number in (1, 2)]
    folder = a_search(tmp_path / "trials", trials, space, name="digits")
    path = folder.path / "records" / "00002.json"
    path.write_text(path.read_text()[:40])
    return path


@pytest.mark.parametrize(
    "words", [["show"], ["show", "digits"], ["export", "digits"], ["export", "digits", "--trial", "1"]]
)
def test_show_and_export_leave_out_a_damaged_record_and_name_it(call, damaged, words):
    code, out, err = call(*words)
    assert code == 0
    assert out
    assert len(err.splitlines()) == 1
    assert err.startswith("left out: ")
    assert "cannot read the record " in err
    assert "records/00002.json (" in err


@pytest.mark.parametrize("content", [[1], 7, None, {"number": 2}])
def test_json_of_another_kind_is_no_record_either(call, damaged, content):
    damaged.write_text(json.dumps(content))
    code, out, err = call("show", "digits")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "50.00" in out


def test_a_search_whose_own_record_is_damaged_hides_no_other(call, damaged, tmp_path):
    other = tmp_path / "trials" / "other"
    other.mkdir()
    (other / "search.json").write_text("[")
    code, out, err = call("show")
    assert code == 0
    assert "digits" in out
    assert "other/search.json" in err


WRONG = [
    ({"epochs": "x"}, "epochs must be a valid list, but got 'x'"),
    ({"epochs": [{"validation_accuracy": "0.9", "seconds": 1.0}]}, "epochs.0.validation_accuracy must be a valid"),
    ({"values": {}}, "values has a pair that must be TEACHER/STUDENT"),
    ({"values": {"pair": "wrn-16-1"}}, "values has a pair that must be TEACHER/STUDENT"),
    ({"seed": None}, "seed must be a valid integer, but got None"),
    ({"number": True}, "number must be a valid integer, but got True"),
    ({"status": "ended"}, "status must be one of waiting, running, "),
    ({"kind": "other"}, "kind must be one of searched, baseline, final, but got 'other'"),
    ({"objective": "speed"}, "objective must be one of validation_accuracy, "),
    ({"test": {"accuracy": "0.9"}}, "test.accuracy must be a valid number, but got '0.9'"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG, ids=lambda value: value if isinstance(value, str) else None)
def test_a_value_of_another_type_is_damage_too(call, damaged, changes, reason):
    intact = json.loads(damaged.with_name("00001.json").read_text())
    damaged.write_text(json.dumps({**intact, "number": 2, **changes}))
    for words in (["show"], ["show", "digits"], ["export", "digits"]):
        code, out, err = call(*words)
        assert (code, len(err.splitlines())) == (0, 1), err
        assert out
        assert "records/00002.json is not a record of ctkd-search " in err
        assert reason in err


def test_a_search_with_a_value_of_another_type_hides_no_other(call, damaged, tmp_path):
    path = damaged.parents[1] / "search.json"
    (tmp_path / "trials" / "other").mkdir()
    content = json.loads(path.read_text())
    (tmp_path / "trials" / "other" / "search.json").write_text(json.dumps({**content, "started": 5}))
    code, out, err = call("show")
    assert code == 0
    assert "digits" in out
    assert "other/search.json is not a record of ctkd-search " in err
    assert "(started must be a valid string, but got 5)" in err
