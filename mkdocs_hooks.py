"""Hooks of the documentation's build: the reference of the commands, from their parser, and the notebook's links."""

from __future__ import annotations

import argparse
import re
from typing import Any

from ctkd_search.cli.parser import make_parser

PAGE = "reference/commands.md"
PLACE = "<!-- commands -->"
NOTEBOOK = "notebook.ipynb"
# A link to another page as it is written in the repository.
_LINK = re.compile(r'href="(?![a-z]+:)([^"#]+)\.md(?=["#])')


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the reference of the commands in its place on its page.

    Args:
        markdown: The page as it is in the repository.
        page: The page, as MkDocs knows it.

    Returns:
        The page to be rendered.

    Raises:
        ValueError: The page has no place for the reference.
    """
    if page.file.src_uri != PAGE:
        return markdown
    if PLACE not in markdown:
        raise ValueError(f"docs/{PAGE} must contain {PLACE}, where the commands are described")
    return markdown.replace(PLACE, commands_reference())


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Makes the notebook's links lead to the built pages, as MkDocs does in pages of Markdown.

    Args:
        html: The content of a page.
        page: The page, as MkDocs knows it.

    Returns:
        The content.
    """
    return _LINK.sub(r'href="\1.html', html) if page.file.src_uri == NOTEBOOK else html


def commands_reference() -> str:
    """Return all commands with their descriptions, arguments and examples, as Markdown."""
    parsers = commands()
    summary = [f"| [`{name}`](#{name}) | {_cell(short)} |" for name, (short, _) in parsers.items()]
    table = "\n".join(["| command | purpose |", "| --- | --- |", *summary])
    return "\n\n".join([table, *(_command(name, parser) for name, (_, parser) in parsers.items())])


def commands() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return the summary and the parser of every command, by name."""
    actions = make_parser()._actions
    action = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {name: (summaries[name], parser) for name, parser in action.choices.items()}


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    words = " ".join(["ctkd-search", name, *(_positional(item) for item in shown if not item.option_strings)])
    usage = f"{words} [options]" if any(item.option_strings for item in shown) else words
    rows = [f"| {_cell(_call(item))} | {_cell(item.help or '')} |" for item in shown]
    table = "\n".join(["| argument | meaning |", "| --- | --- |", *rows])
    parts = [f"## {name} {{#{name}}}", f"```text\n{usage}\n```", _prose(parser.description), table]
    return "\n\n".join([*parts, _prose(parser.epilog)])


def _positional(action: argparse.Action) -> str:
    shown = str(action.metavar or "|".join(action.choices or [action.dest]))
    endings = {"?": f"[{shown}]", "*": f"[{shown} ...]", "+": f"{shown} ..."}
    return endings.get(str(action.nargs), shown)


def _call(action: argparse.Action) -> str:
    """Return how an argument is written, as in `-o FILE`, `--output FILE`."""
    if not action.option_strings:
        return f"`{_positional(action)}`"
    value = action.metavar or (",".join(map(str, action.choices)) if action.choices else action.dest.upper())
    follows = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{option}{follows}`" for option in action.option_strings)


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|")


def _prose(text: str | None) -> str:
    """Return a description as Markdown: lines that are indented are examples."""
    lines: list[str] = []
    inside = False
    for line in (text or "").strip("\n").splitlines():
        if line.startswith("  ") != inside:
            lines.append("```" if inside else "```console")
            inside = not inside
        lines.append(line.removeprefix("  ") if inside else line.replace("<", "&lt;"))
    return "\n".join([*lines, *(["```"] if inside else [])])
