"""Names given by users are printed unchanged, never as markup."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

from ctkd_search.cli.commands import _console
from ctkd_search.display.tables import plain_table

SOURCE = Path(__file__).parents[2] / "ctkd_search"
WRITERS = {"Console", "TextColumn"}


def calls():
    """Returns every call in the package that makes something which reads markup by default."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WRITERS:
                yield path, node


def test_everything_that_could_read_markup_is_told_not_to():
    found = list(calls())
    assert len(found) >= 2
    for path, node in found:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert given.get("markup") == "False", f"{path}:{node.lineno}"


@pytest.mark.parametrize("text", ["[red]", "[/]", "[/red]", "a [bold]b[/bold]", ":smile:", "[link=x]y"])
def test_brackets_and_colons_are_printed_as_they_are(text):
    console = _console()
    assert isinstance(console, Console)
    console.file = io.StringIO()
    table = plain_table("name")
    table.add_row(text)
    console.print(table)
    console.print(f"reason: {text}", soft_wrap=True, highlight=False)
    assert console.file.getvalue().count(text) == 2
