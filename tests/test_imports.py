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
from support.factories import DIGITS, a_search, a_trial, digits_space

import ctkd_search

PACKAGE = Path(ctkd_search.__file__).parent
HEAVY = {"torch", "torchvision", "ray", "mlflow", "sklearn", "pandas"}
CORE = ("distill", "models", "data")
# Single files that any room may import; they import no room.
GROUND = {
    *("cache_index", "config", "cores", "discovery", "errors", "fields", "files", "geometry", "metrics"),
    *("names", "pairs", "paths", "plugins", "recipe", "record_file", "storage", "text", "units", "uris", "versions"),
}
# Each imports the ground, and those before it.
ROOMS = [
    *("leases", "models", "data", "distill", "space", "resources", "records", "analysis", "display"),
    *("report", "tracking", "checks", "students", "search", "final", "batch", "api", "cli"),
]
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
    """Every name of a module that a source file imports: inside functions and for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
        space = digits_space()
        measured = {"validation_loss": 1.0, "seconds": 1.0}
        trial = a_trial(1, 0.5, space=space, stored=space.paper_point(), measured=measured)
        a_search(tmp_path / "trials", [trial], space, name="digits", finished=True)
    command = [{"DIGITS": DIGITS}.get(word, word) for word in words.split()]
    told = python("-c", COMMANDS, json.dumps([command]), cwd=tmp_path).stderr
    names = set(told.split())
    assert "ctkd_search.cli" in names
    assert within(names, HEAVY) == []


def test_help_does_not_even_import_the_reader_of_spaces():
    names = set(python("-c", COMMANDS, '[["--help"]]').stderr.split())
    assert within(names, {"pydantic", "yaml", "optuna", "rich", "numpy", "ctkd_search.space.definition"}) == []


@pytest.mark.slow
@pytest.mark.parametrize("room", CORE)
def test_the_core_runs_without_the_orchestration_and_the_reader_of_spaces(room):
    code = f"import sys\nimport {', '.join(modules(room))}\nprint(*sys.modules, sep='\\n')"
    names = set(python("-c", code).stdout.split())
    assert set(modules(room)) <= names
    forbidden = {"ray", "mlflow", "optuna", "pydantic", "yaml", "sklearn", "pandas"}
    assert within(names, forbidden) == []


@IN_EACH_FILE
def test_libraries_are_imported_by_the_rooms_that_they_belong_to(path):
    room = path.relative_to(PACKAGE).parts[0]
    names = list(imported(path))
    if room in CORE:
        assert within(names, {"ray", "mlflow", "optuna", "pydantic", "yaml"}) == []
    if room != "search":
        assert within(names, {"ray"}) == []
    else:
        # It knows the declaration that every method has, and none of the methods.
        of_methods = within(names, {"ctkd_search.distill.methods"})
        assert of_methods == within(names, {"ctkd_search.distill.methods.base"})


def module_of(path):
    """Name of the module in a file, without the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported_modules(path):
    """Modules of the package that a source file imports, but for the package itself, which has the version alone."""
    for name in imported(path):
        if name.startswith("ctkd_search."):
            module = name.removeprefix("ctkd_search.")
            while module and module not in MODULES:
                module = module.rpartition(".")[0]  # the last part is a name in the module
            if module:
                yield module


GRAPH = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}


def test_a_room_imports_only_rooms_above_it():
    place = {room: number for number, room in enumerate(ROOMS)}
    rooms = {module: module.partition(".")[0] for module in MODULES if module not in ("", "__main__")}
    assert set(rooms.values()) == place.keys() | GROUND
    print("the ground:", *sorted(GROUND))
    for room in ROOMS:
        above = {rooms[other] for module in rooms if rooms[module] == room for other in GRAPH[module]}
        print(f"{room} imports", *sorted((above & place.keys()) - {room}, key=place.get))
    upwards = [
        f"{module} imports {other}"
        for module in rooms
        for other in GRAPH[module]
        if place.get(rooms[other], -1) > place.get(rooms[module], -1)
    ]
    assert upwards == []


def test_no_modules_import_each_other():
    def circles(graph):
        """Modules left over when those that import none of the others are taken away, again and again."""
        left = dict(graph)
        while free := [module for module, others in left.items() if not others & left.keys()]:
            for module in free:
                del left[module]
        return sorted(left)

    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert circles(GRAPH) == []


def test_the_search_for_imports_sees_those_inside_functions_and_of_type_checkers(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport a.b\nif TYPE_CHECKING:\n    import seen_by_checkers\n"
        "def f():\n    from c import d\n"
    )
    assert sorted(imported(path)) == ["a.b", "c.d", "seen_by_checkers", "typing.TYPE_CHECKING"]
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
