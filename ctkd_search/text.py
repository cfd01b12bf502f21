"""Texts of other programs brought into a line of ours, and numbers of things."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LONGEST = 300


def one_line(text: str, limit: int = _LONGEST) -> str:
    """Returns the first line of a text that says something, without a terminal's colours.

    What is longer than `limit` characters is cut after a sentence if one ends in its second half, else after a word if
    one ends there, with an ellipsis.
    """
    lines = (line.strip() for line in _ESCAPES.sub("", text).splitlines())
    line = next((line for line in lines if line), "")
    if len(line) <= limit:
        return line
    head = line[:limit]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? ", "; "))
    if end >= limit // 2:
        return head[: end + 1].rstrip(";")
    words = head.rpartition(" ")[0]
    return words.rstrip(",;:") + " …" if len(words) >= limit // 2 else head + "…"


def amount(count: int, noun: str) -> str:
    """Returns a number of things, as ``1 trial`` and ``1,200 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
