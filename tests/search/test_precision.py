"""The precision of a search: settled once, when it begins, and kept however often it goes on."""

import pytest
import torch
from support import here
from support.factories import a_space, write_space

from ctkd_search.distill.engine import resolve_precision
from ctkd_search.records.store import SearchFolder
from ctkd_search.resources import Share
from ctkd_search.search.precision import automatic_precision, with_precision

OTHER = {"float32": "bfloat16", "bfloat16": "float32"}
NATIVE = resolve_precision("auto", torch.device("cpu"))


@pytest.mark.parametrize("left", ["neither", "train", "teachers", "both"])
def test_what_a_space_leaves_to_the_hardware_is_settled_and_what_it_says_stays(left):
    said = {"precision": OTHER[NATIVE]}
    of_train = {} if left in ("train", "both") else said
    of_teachers = {"precision": "auto"} if left in ("teachers", "both") else said
    space = a_space(train=of_train, teachers={"recipe": of_teachers})
    found = automatic_precision(space, Share(0, 1, 1))
    assert found == (None if left == "neither" else NATIVE)
    settled = with_precision(space, found)
    assert settled.train.precision == (NATIVE if left in ("train", "both") else OTHER[NATIVE])
    assert settled.teachers.recipe.precision == (NATIVE if left in ("teachers", "both") else OTHER[NATIVE])


@pytest.mark.slow
def test_a_search_that_goes_on_elsewhere_keeps_its_precision(tmp_path):
    def ran(*words):
        ended = here.command("run", "space.yaml", *words, directory=tmp_path, whole=False)
        assert ended.code == 0, ended.said
        return ended.out

    write_space(
        tmp_path / "space.yaml",
        name="small",
        dataset={"name": "digits", "validation": 0.8},
        budget={"trials": 1, "epochs": 1, "grace_period": 1},
        search={"pair": "wrn-10-1/resnet8", "lr": {"float": [0.05, 0.1]}},
    )
    here.fresh_store(tmp_path / "trials" / "mlflow.db")
    folder = SearchFolder(tmp_path / "trials", "small")
    assert "trained 1 epoch" in ran()
    record = folder.search()
    assert record.precision == NATIVE
    # As if it had begun on a machine with other hardware.
    record.precision = OTHER[NATIVE]
    folder.write(record)
    assert "trained 1 epoch" in ran("--trials", "2"), "the teacher there has the precision of this machine"
    assert folder.search().precision == OTHER[NATIVE]
