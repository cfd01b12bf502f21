"""The public names of the package: documented, and imported only when they are asked for."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.factories import DIGITS
from support.python import environment

import ctkd_search
from ctkd_search import errors

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python.md"
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "numpy", "rich", "pydantic", "yaml", "IPython")


def loaded_after(code):
    """Runs code in a process of its own; returns which of the heavy libraries it has imported."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return set(HEAVY) & set(told.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import ctkd_search", "import ctkd_search\nctkd_search.UserError\ndir(ctkd_search)", "import ctkd_search.api"],
)
def test_importing_the_package_imports_nothing_heavy(code):
    assert loaded_after(code) == set()


def test_the_names_of_a_search_import_neither_ray_nor_torch():
    code = "import ctkd_search\nctkd_search.run, ctkd_search.load, ctkd_search.train, ctkd_search.Callback"
    assert loaded_after(code) & {"torch", "ray", "optuna", "mlflow", "pandas"} == set()


def test_every_public_name_is_there_and_in_the_reference():
    documented = re.findall(r"^::: ctkd_search\.(\w+)$", REFERENCE.read_text(encoding="utf-8"), re.M)
    assert sorted(documented) == sorted(ctkd_search.__all__)
    for name in ctkd_search.__all__:
        assert getattr(ctkd_search, name).__name__ == name
        assert name in dir(ctkd_search)
        assert inspect.getdoc(getattr(ctkd_search, name))


def test_names_that_are_not_public_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'sarch'"):
        ctkd_search.sarch  # noqa: B018
    assert not hasattr(ctkd_search, "open_space")


def test_the_function_check_is_not_hidden_by_a_room():
    importlib.import_module("ctkd_search.checks.report")
    assert callable(ctkd_search.check)
    rooms = {path.name for path in Path(ctkd_search.__file__).parent.iterdir() if path.is_dir()}
    files = {path.stem for path in Path(ctkd_search.__file__).parent.glob("*.py")}
    assert (rooms | files) & set(ctkd_search.__all__) == set()


def test_the_options_of_the_functions_are_described():
    for name in ("check", "run", "train", "load", "searches", "read_space"):
        function = getattr(ctkd_search, name)
        text = inspect.getdoc(function)
        for parameter in inspect.signature(function).parameters:
            assert re.search(rf"^    {parameter}: ", text, re.M), f"{name}({parameter})"


def test_the_public_errors_are_those_that_the_commands_catch():
    assert ctkd_search.UserError is errors.UserError
    assert ctkd_search.WorkFailed is errors.WorkFailed


@pytest.mark.parametrize(
    "act",
    [
        lambda **where: ctkd_search.check(DIGITS, measure=False, **where),
        lambda **where: ctkd_search.run(DIGITS, **where),
        lambda **where: ctkd_search.train({}, **where),
        lambda **where: ctkd_search.load("digits", **where),
        ctkd_search.searches,
    ],
    ids=["check", "run", "train", "load", "searches"],
)
def test_a_file_is_no_directory_of_searches(act, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ctkd_search.UserError, match=r"^trials_dir: .*file is a file, not a directory$"):
        act(trials_dir=tmp_path / "file")
