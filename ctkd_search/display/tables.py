"""Tables of text cells, rendered for a terminal, as Markdown and as HTML; a report's template renders its own HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as TerminalTable

WINNER, BASELINE = "winner", "baseline"


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, and its role (`WINNER`, `BASELINE` or none)."""

    cells: list[str]
    role: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: A sentence that names its content.
        heads: Its headings.
        rows: Its rows.
        numbers: Places of the columns that contain numbers; these are aligned to the right.
        prose: Places of the columns that contain sentences, which may be broken; a terminal has no room for them.
    """

    caption: str
    heads: list[str]
    rows: list[Row]
    numbers: set[int] = field(default_factory=set)
    prose: set[int] = field(default_factory=set)


def for_terminal(table: Table) -> Group:
    """Returns a table and its caption for a terminal, without the columns of prose; the winner's row is bold."""
    from rich.console import Group
    from rich.text import Text

    kept = [place for place in range(len(table.heads)) if place not in table.prose]
    shown = plain_table()
    for place in kept:
        head = table.heads[place]
        shown.add_column(head, justify="right" if place in table.numbers else "left", no_wrap=head == "ended")
    for row in table.rows:
        shown.add_row(*(row.cells[place] for place in kept), style="bold" if row.role == WINNER else None)
    return Group(Text(table.caption, style="italic"), shown)


def as_markdown(table: Table) -> str:
    """Returns a table in Markdown, without its caption."""
    rules = ["---:" if place in table.numbers else "---" for place in range(len(table.heads))]
    lines = [table.heads, rules, *(row.cells for row in table.rows)]
    # A bar within a cell, as between the taps of a network, would end the cell.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def as_html(table: Table) -> str:
    """Returns a table and its caption in HTML, for a notebook; the winner's row is bold."""
    rows = []
    for row in table.rows:
        weight = "bold" if row.role == WINNER else "normal"
        cells = "".join(
            f'<td style="text-align: {_side(table, place)}; font-weight: {weight}">{html.escape(cell)}</td>'
            for place, cell in enumerate(row.cells)
        )
        rows.append(f"<tr>{cells}</tr>")
    heads = "".join(
        f'<th style="text-align: {_side(table, place)}">{html.escape(head)}</th>'
        for place, head in enumerate(table.heads)
    )
    caption = f'<caption style="caption-side: top; text-align: left">{html.escape(table.caption)}</caption>'
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _side(table: Table, place: int) -> str:
    return "right" if place in table.numbers else "left"


def plain_table(*columns: str, right: Sequence[str] = ()) -> TerminalTable:
    """Returns an empty table without a frame, for a terminal.

    Args:
        columns: Headings.
        right: The headings of columns that are aligned to the right.
    """
    from rich import box
    from rich.table import Table as TerminalTable

    table = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table
