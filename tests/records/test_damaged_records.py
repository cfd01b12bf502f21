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
