"""The worked examples of the contributor's guide, written into a copy of the package and run as the guide says."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.pages import REPOSITORY, blocks

GUIDE = "docs/contributing.md"
# How a block's title says where in an existing file its code goes.
_PLACE = re.compile(r"(?P<path>[\w./]+)(?:, (?P<how>before|after|instead of): (?P<line>.+))?")


def examples(*languages):
    return [block for block in blocks(*languages) if block.page == GUIDE and block.title]


def put(root, block):
    """Writes a block to the file, or to the place in a file, that its title names."""
    match = _PLACE.fullmatch(block.title)
    path = root / match["path"]
    if match["how"] is None:
        assert not path.exists(), f"{block.place}: {path} exists"
        path.write_text(block.text, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.startswith(match["line"])]
    assert len(found) == 1, f"{block.place}: {len(found)} lines of {match['path']} begin with {match['line']!r}"
    first, last = {"before": (0, 0), "after": (1, 1), "instead of": (0, 1)}[match["how"]]
    # Two empty lines stand between definitions.
    text = block.text + "\n\n" * block.text.startswith(("def ", "class "))
    lines[found[0] + first : found[0] + last] = [text]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with the examples in it."""
    root = tmp_path_factory.mktemp("copy")
    unwanted = shutil.ignore_patterns("__pycache__", "space.schema.json")
    for name in ("ctkd_search", "tests", "spaces"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=unwanted)
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for block in examples("python"):
        put(root, block)
    return root


def run(root, *words):
    """Runs Python in the copy, which must succeed, and returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=root, env=environment, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.slow
def test_the_four_examples_fulfil_the_contracts_of_their_kind(copy):
    commands = [line for block in blocks("bash") if block.page == GUIDE for line in block.text.splitlines()]
    named = [line for line in commands if line.startswith("pytest -n 0 ")]
    assert len(named) == 4
    files = dict.fromkeys(re.findall(r"tests/\S+\.py", " ".join(named)))
    chosen = [re.search(r"-k (\"[^\"]+\"|\S+)", line) for line in named]
    # One process for all: what a command does not choose from, it runs whole.
    words = " or ".join(match[1].strip('"') for match in chosen if match)
    whole = [re.findall(r"test_\w+\.py", line) for line, match in zip(named, chosen, strict=True) if not match]
    words += "".join(f" or {name}" for names in whole for name in names)
    told = run(copy, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "--durations=0", *files, "-k", words)
    counted = int(re.search(r"(\d+) passed", told)[1])
    assert counted > 60
    assert "failed" not in told


READ = """
import sys
from pathlib import Path
from ctkd_search.data import names
from ctkd_search.space.reader import read_space
for path in sys.argv[1:]:
    space = read_space(Path(path), ["search.pair=plain20/plain8"])
    print(space.pairs(), space.methods(), space.strategy.objectives)
print(names())
"""


def test_spaces_can_use_the_examples(copy):
    found = examples("yaml")
    assert len(found) == 2
    for block in found:
        (copy / f"{block.line}.yaml").write_text(block.text, encoding="utf-8")
    told = run(copy, "-c", READ, *(f"{block.line}.yaml" for block in found))
    named = ["plain20", "fashion-mnist", *(block.title.rpartition(" ")[2] for block in found)]
    assert [name for name in named if name not in told] == []


def test_the_examples_are_written_as_the_code_is(copy):
    titles = {_PLACE.fullmatch(block.title)["path"] for block in examples("python")}
    run(copy, "-m", "ruff", "check", *titles)
    run(copy, "-m", "ruff", "format", "--check", *titles)
