"""Fonts for names in other scripts than Latin, as far as they are installed."""

from __future__ import annotations

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

MAIN = "DejaVu Sans"
_MORE: ContextVar[tuple[str, ...]] = ContextVar("fonts in addition to the main one", default=())
# Matplotlib draws one character after the other from left to right, and joins none.
_NOT_LEFT_TO_RIGHT = ("R", "AL", "AN", "RLE", "RLO", "RLI")
_JOINED = range(0x0900, 0x1200)


def families() -> list[str]:
    """Returns the font families to draw with, in the order in which a character is searched in them."""
    return [MAIN, *_MORE.get()]


@contextlib.contextmanager
def fonts_for(texts: Sequence[str]) -> Iterator[None]:
    """Adds installed fonts that have the characters of some texts to the main font while the block runs."""
    token = _MORE.set(tuple(_chosen(frozenset("".join(texts)))))
    log = logging.getLogger(font_manager.__name__)
    level = log.level
    # Matplotlib would warn that a family without a font of the usual weight is drawn with the nearest one.
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        _MORE.reset(token)


def is_drawable(text: str) -> bool:
    """Returns whether the fonts in use have all characters of a text, and it may be drawn one after the other."""
    if any(unicodedata.bidirectional(char) in _NOT_LEFT_TO_RIGHT or ord(char) in _JOINED for char in text):
        return False
    known = frozenset().union(*(_characters(_path(family)) for family in families()))
    return all(ord(char) in known or char.isspace() for char in text)


def _chosen(characters: frozenset[str]) -> list[str]:
    """Returns families that together have most of the characters that the main font lacks."""
    missing = {ord(char) for char in characters if not char.isspace()} - _characters(_path(MAIN))
    chosen: list[str] = []
    while missing:
        installed = _installed()
        best = max(installed, key=lambda family: len(missing & _characters(installed[family])), default=None)
        if best is None or not missing & _characters(installed[best]):
            break
        missing -= _characters(installed[best])
        chosen.append(best)
    return chosen


@functools.cache
def _installed() -> dict[str, str]:
    """Returns the upright fonts of the system: the file of each family."""
    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    # Matplotlib caches its list of fonts; some may have been installed since.
    for path in font_manager.findSystemFonts():
        if path not in known:
            with contextlib.suppress(Exception):  # no font that can be read
                manager.addfont(path)
    found: dict[str, str] = {}
    for entry in sorted(manager.ttflist, key=lambda entry: (entry.name, entry.style != "normal", str(entry.weight))):
        # This font has a box for every character.
        if not entry.name.startswith("Last Resort"):
            found.setdefault(entry.name, entry.fname)
    return found


@functools.cache
def _path(family: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Returns the characters of a font file."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # removed, or damaged
        return frozenset()
