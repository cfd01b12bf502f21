"""Docstrings begin with a verb or a noun that says what a thing is, does or returns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctkd_search

PACKAGE = Path(ctkd_search.__file__).parent
# A docstring that begins so names a question, not the thing.
QUESTION = re.compile(r"(What|How|Whether|Where|When|Who|Whose|Whom|Which|Why|The same)\b")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the docstring of a module, and of each class and function in it that has one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", path.stem), text


def modules() -> dict[str, list[Path]]:
    """Returns the modules of each room."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    return rooms


@pytest.mark.parametrize("room", modules(), ids=lambda room: room or "ground")
def test_docstrings_begin_with_a_verb_or_a_noun(room):
    found = [
        f"{path.relative_to(PACKAGE)}: {name}: {text.splitlines()[0]}"
        for path in modules()[room]
        for name, text in docstrings(path)
        if QUESTION.match(text)
    ]
    assert found == []


def test_the_check_finds_what_it_is_for(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""What it is."""\n\nclass A:\n    """The same as B."""\n\n    def f(self):\n        """Returns 1."""\n'
    )
    assert [bool(QUESTION.match(text)) for _, text in docstrings(path)] == [True, True, False]
