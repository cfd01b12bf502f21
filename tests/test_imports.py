"""What is imported, and when: commands that answer at once, and rooms that know nothing of what is not theirs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ctkd_search

PACKAGE = Path(ctkd_search.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]
DIGITS = str(REPOSITORY / "spaces" / "digits.yaml")
HEAVY = {"torch", "torchvision", "ray", "mlflow", "sklearn", "pandas"}
CORE = ("distill", "models", "data")
# Runs commands one after the other, each of which must succeed, and then tells what was imported.
COMMANDS = """
import json, sys
from ctkd_search.cli import main
for words in json.loads(sys.argv[1]):
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    assert code == 0, (words, code)
print(*sys.modules, sep="\\n", file=sys.stderr)
"""
# A search as it stands on disk, without a trial library having been near it.
A_SEARCH = """
import dataclasses, sys
from pathlib import Path
from ctkd_search.config import plain
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.reader import read_space
space = read_space(Path(sys.argv[1]))
values = {field.name: "x" for field in dataclasses.fields(SearchRecord)}
values |= {"space": plain(dict(space.raw)), "versions": {}, "classes": [], "experts": {}, "finished": True}
folder = SearchFolder(Path("trials"), "digits")
folder.write(SearchRecord(**values))
stored = space.paper_point()
epochs = [{"validation_accuracy": 0.5, "validation_loss": 1.0, "seconds": 1.0}]
folder.write_trial(TrialRecord(1, space.decode(stored), stored, 0, status="finished", epochs=epochs))
"""


def python(*words, **options):
    """Runs Python in a process of its own, which must succeed."""
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended


def modules(room):
    """Names of all modules of a room."""
    package = importlib.import_module(f"ctkd_search.{room}")
    return [info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def imported(path):
    """Every name of a module that a source file imports, anywhere in it; what only type checkers see is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(names, packages):
    """Those names that are in one of the packages."""
    return sorted(name for name in names if any(f"{name}.".startswith(f"{package}.") for package in packages))


SOURCES = sorted(PACKAGE.rglob("*.py"))
IN_EACH_FILE = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))


@pytest.mark.parametrize("words", ["--help", "run --help", "schema", "show", "show digits", "export digits"])
def test_a_command_that_only_looks_imports_nothing_heavy(tmp_path, words):
    if words.startswith(("show", "export")):
        python("-c", A_SEARCH, DIGITS, cwd=tmp_path)
    command = [{"DIGITS": DIGITS}.get(word, word) for word in words.split()]
    told = python("-c", COMMANDS, json.dumps([command]), cwd=tmp_path).stderr
    names = set(told.split())
    assert "ctkd_search.cli" in names
    assert within(names, HEAVY) == []


def test_help_does_not_even_import_the_reader_of_spaces():
    names = set(python("-c", COMMANDS, '[["--help"]]').stderr.split())
    assert within(names, {"pydantic", "yaml", "optuna", "rich", "numpy", "ctkd_search.space.definition"}) == []


@pytest.mark.parametrize("room", CORE)
def test_the_core_runs_without_the_orchestration_and_the_reader_of_spaces(room):
    code = f"import sys\nimport {', '.join(modules(room))}\nprint(*sys.modules, sep='\\n')"
    names = set(python("-c", code).stdout.split())
    assert set(modules(room)) <= names
    forbidden = {"ray", "mlflow", "optuna", "pydantic", "yaml", "sklearn", "pandas"}
    assert within(names, forbidden) == []


@IN_EACH_FILE
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    names = list(imported(path))
    if room in CORE:
        outer = ("search", "results", "space", "cli", "distributions", "yamlfile")
        assert within(names, {f"ctkd_search.{name}" for name in outer}) == []
        assert within(names, {"ray", "mlflow", "optuna", "pydantic", "yaml"}) == []
    if room in {"models", "data"}:
        assert within(names, {"ctkd_search.distill"}) == []
    if room != "search":
        assert within(names, {"ray"}) == []
    else:
        # It knows what every method has, and none of them.
        of_methods = within(names, {"ctkd_search.distill.methods"})
        assert of_methods == within(names, {"ctkd_search.distill.methods.base"})
        assert within(names, {"ctkd_search.cli"}) == []


def test_the_search_for_imports_sees_those_inside_functions(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport a.b\nif TYPE_CHECKING:\n    import seen_by_checkers\n"
        "def f():\n    from c import d\n    if TYPE_CHECKING:\n        pass\n    else:\n        import e\n"
    )
    assert list(imported(path)) == ["typing.TYPE_CHECKING", "a.b", "c.d", "e"]
    assert within(["ray.tune", "rays", "ray"], {"ray"}) == ["ray", "ray.tune"]


def test_what_is_wrong_with_a_space_is_said_before_torch_is_imported():
    code = (
        "import sys\nfrom ctkd_search.cli import main\nassert main(sys.argv[1:]) == 2\nprint(*sys.modules, sep='\\n')"
    )
    names = set(python("-c", code, "check", DIGITS, "--trials", "0").stdout.split())
    assert "ctkd_search.space.reader" in names
    assert within(names, HEAVY) == []


@pytest.mark.parametrize(("words", "limit"), [(["--help"], 0.5), (["schema"], 1.5)], ids=["help", "schema"])
def test_a_command_that_only_looks_answers_at_once(words, limit):
    def seconds():
        # Of the processor: what else the machine does meanwhile is no matter of the command's.
        before = os.times()
        python("-m", "ctkd_search", *words)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < limit
