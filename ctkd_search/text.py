"""Texts and errors of other programs in one line, and numbers with their units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LONGEST = 300


def one_line(text: str, limit: int = _LONGEST) -> str:
    """Returns the first line of a text that is not empty, without a terminal's colours.

    A line of more than `limit` characters is cut after a sentence if one ends in its second half, else after a word if
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
    whole = head.rpartition(" ")[0]
    return whole.rstrip(",;:") + " …" if len(whole) >= limit // 2 else head + "…"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its type where the message is empty."""
    return one_line(str(error)) or type(error).__name__


def amount(count: int, noun: str) -> str:
    """Returns a number of things, as ``1 trial`` and ``1,200 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_words(words: Sequence[str]) -> str:
    """Returns words joined for a sentence, as in ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def percent(accuracy: float) -> str:
    """Returns an accuracy in percent, or a dash where there is none."""
    return f"{100 * accuracy:.2f} %" if accuracy >= 0 else "-"


def clock(seconds: float) -> str:
    """Returns a duration, as ``1 h 05 min`` and ``12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def digits(value: float) -> str:
    """Returns a number with its digits, not as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def size(count: float) -> str:
    """Returns a number of bytes with its unit, as ``12 bytes`` and ``1.23 kB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def settings(given: Mapping[str, Any]) -> str:
    """Returns settings in short, without what is off, as ``crop 4, flip, erasing (probability 0.5)``."""
    words = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            words.append(f"{name} ({settings(value)})")
        elif isinstance(value, list | tuple):
            words.append(f"{name} {' to '.join(f'{item:g}' for item in value)}")
        elif isinstance(value, str):
            words.append(f"{name} {value}")
        elif value is not None and value is not False and value != 0:
            words.append(name if value is True else f"{name} {value:g}")
    return ", ".join(words) or "none"
