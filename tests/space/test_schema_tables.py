"""The reference as tables: what the documentation holds is what the code generates, and the command that writes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctkd_search import cli, data
from ctkd_search.models.registry import families
from ctkd_search.recipe import Recipe
from ctkd_search.space.distributions import FORMS
from ctkd_search.space.parameters import parameters
from ctkd_search.space.schema.document import space_schema
from ctkd_search.space.schema.tables import BEGIN, END, has_place, reference, renewed
from ctkd_search.space.schema.writing import schema_text

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "space.md"
RENEW = "renew it with: ctkd-search schema --markdown -o docs/reference/space.md"

pytestmark = pytest.mark.usefixtures("own_directory")


def rows():
    """The cells of every row, by what stands in the first cell without its marks."""
    lines = [line for line in reference().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0].strip("*`"): row for row in cells}


def test_the_reference_in_the_documentation_is_the_one_that_the_code_generates():
    text = PAGE.read_text(encoding="utf-8")
    assert has_place(text), f"{PAGE} has no place for it between {BEGIN} and {END}"
    assert text == renewed(text), RENEW


def test_every_key_has_a_row():
    found, schema = rows(), space_schema()
    for name, item in schema["properties"].items():
        assert name == "search" or name in found
        for key in item.get("properties", {}):
            assert (key if name == "search" else f"{name}.{key}") in found
    assert {"sampler.sigma", "scheduler.brackets", "teachers.expert.seed"} <= found.keys()
    assert not any(key.startswith("teachers.recipe.") for key in found)
    assert {*data.names(), *parameters(Recipe())} <= found.keys()
    assert {family.form for family in families()} <= found.keys()
    assert {form.example for form in FORMS.values()} <= found.keys()


@pytest.mark.parametrize(
    ("key", "default", "values"),
    [
        ("name", "required", "text"),
        (
            "dataset.name",
            "required",
            f"{', '.join(f'`{name}`' for name in data.names())} or text such as `package.module:factory`",
        ),
        ("dataset.channels", "", "`1`, `3`"),
        ("dataset.options", "", "mapping of names to values"),
        ("dataset.validation", "", "number > 0, < 1"),
        ("augment.crop", "", "whole number ≥ 0"),
        ("budget", "", ""),
        ("budget.trials", "`32`", "whole number ≥ 1"),
        ("budget.time_budget", "", "text such as `2h` or `1h30m` or number > 0"),
        ("sampler", "`tpe`", "`tpe`, `gp`, `cmaes`, `qmc`, `random`"),
        ("sampler.sigma", "", "number > 0, ≤ 1"),
        ("sampler.scramble", "", "`true`, `false`"),
        ("objectives", "`[validation_accuracy]`", None),
        ("teachers.recipe", "", "keys as under `train`"),
        ("teachers.expert.checkpoint", "", "text or mapping of names to text"),
        ("train.nesterov", "`true`", "`true`, `false`"),
        ("train.milestones", "`[0.3, 0.6, 0.8]`", "list of numbers > 0, < 1"),
        ("train.precision", "`auto`", "`auto`, `float32`, `bfloat16`"),
        ("resources.trials_per_gpu", "", "whole number ≥ 1 or `auto`"),
        ("pair", "`wrn-40-1/wrn-16-1`", "text such as `wrn-40-1/wrn-16-1`"),
        ("step_loss", "`kl`", "`kl`, `mse`"),
        ("attention_layers", "all", "list of whole numbers ≥ 1"),
        ("sp.similarity_layers", "the last", "list of whole numbers ≥ 1"),
        (
            *("folder", None),
            "`root` (required), `image_size`, `channels`, `resize`, `loading`, `stored_side`, `stored_as`, `workers`, "
            "`skip_broken`",
        ),
    ],
)
def test_a_row_says_what_a_key_is_left_out_and_what_it_may_be(key, default, values):
    row = rows()[key]
    assert default is None or row[1] == default
    assert values is None or row[2] == values
    assert len(row) == 4
    assert row[3]


def test_all_rows_of_a_table_have_as_many_cells_and_nothing_in_them_is_taken_for_html():
    for table in reference().split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert re.sub(r"`[^`]*`", "", reference()).count("<") == re.sub(r"`[^`]*`", "", reference()).count("< ")


def test_only_the_place_of_the_reference_is_written_anew():
    text = f"before\n{BEGIN}\nstale\n{END}\nafter\n"
    fresh = renewed(text)
    assert fresh == f"before\n{BEGIN}\n\n{reference()}\n{END}\nafter\n"
    assert renewed(fresh) == fresh
    assert not has_place("nothing") | has_place(BEGIN) | has_place(END + BEGIN)


@pytest.mark.parametrize(("words", "text"), [([], schema_text), (["--markdown"], reference)])
def test_the_command_prints_the_reference_or_writes_it(capsys, words, text):
    assert cli.main(["schema", *words]) == 0
    assert capsys.readouterr() == (text(), "")
    assert cli.main(["schema", *words, "-o", "new/file"]) == 0
    assert capsys.readouterr() == ("wrote new/file\n", "")
    assert Path("new/file").read_text(encoding="utf-8") == text()
    Path("old.md").write_text(f"a\n{BEGIN}\nstale\n{END}\nb\n")
    assert cli.main(["schema", *words, "-o", "old.md"]) == 0
    assert Path("old.md").read_text() == (renewed(f"a\n{BEGIN}{END}\nb\n") if words else text())


def test_a_file_that_cannot_be_read_or_written_is_a_mistake_of_the_user(capsys):
    Path("folder").mkdir()
    Path("bytes").write_bytes(b"\xff\xfe")
    for words in (["-o", "folder"], ["--markdown", "-o", "folder"], ["--markdown", "-o", "bytes"]):
        assert cli.main(["schema", *words]) == 2
        assert capsys.readouterr().err.startswith("ctkd-search: cannot ")
    assert Path("bytes").read_bytes() == b"\xff\xfe"
