"""The forms in which earlier searches are given from Python; none of them trains anything."""

from pathlib import Path

import pytest
from support.factories import DIGITS, a_search, a_space, a_trial

import ctkd_search
from ctkd_search.errors import UserError
from ctkd_search.search import run


@pytest.fixture
def begun_from(own_directory, monkeypatch):
    """Returns the names that a search would begin from."""

    def asked(warm_start, **options):
        found = []
        monkeypatch.setattr(run, "run_search", lambda request, console: found.append(request))
        ctkd_search.run(DIGITS, warm_start=warm_start, progress=False, **options)
        return found[0].warm_start, found[0].trials_dir

    return asked


def test_one_or_several_are_taken_by_name_by_path_and_as_searches(begun_from):
    a_search(Path("trials"), [a_trial(1)], a_space(), name="y")
    search = ctkd_search.load("y")
    for given, names in (
        (None, []),
        ((), []),
        ("y", ["y"]),
        (Path("y.yaml"), ["y.yaml"]),
        (search, ["y"]),
        ([search, Path("z.yaml"), "w"], ["y", "z.yaml", "w"]),
    ):
        assert begun_from(given) == (names, Path("trials")), given


def test_without_a_directory_searches_are_in_the_usual_one(begun_from):
    assert begun_from((), trials_dir=None) == ([], Path("trials"))


@pytest.mark.parametrize("given", [5, [5], [None], ["y", 3.0]], ids=str)
def test_what_is_none_is_refused(begun_from, given):
    with pytest.raises(UserError, match=r"^warm_start must be names of searches, or files of their best configs, but"):
        begun_from(given)


def test_a_search_of_another_directory_is_refused(begun_from):
    a_search(Path("elsewhere"), [a_trial(1)], a_space(), name="y")
    with pytest.raises(UserError, match=r"^warm_start: search 'y' is in elsewhere, not in trials; write its best conf"):
        begun_from(ctkd_search.load("y", "elsewhere"))
