"""Names that other implementations give to the weights of the same networks.

Equal shapes alone would let two tensors change places unseen, so every name is translated by a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

Renaming = Callable[[Collection[str]], dict[str, str]]


class Naming(NamedTuple):
    """The names that another implementation gives the weights of a network that computes the same.

    Attributes:
        source: Name of the implementation.
        rename: Maps each of this package's names to that implementation's.
    """

    source: str
    rename: Renaming


def by_rules(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> Renaming:
    """Return a renaming by rules, of which the first that fits the beginning of a name replaces it.

    Args:
        *rules: Regular expressions, each with its replacement, as for `re.sub`.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def renamed(name: str) -> str:
        for pattern, replacement in compiled:
            if match := pattern.match(name):
                new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                return new + name[match.end() :]
        raise KeyError(name)

    return lambda names: {name: renamed(name) for name in names}


def counted(text: str) -> str:
    """Return the number of a stage, which is counted from 0 here, counted from 1."""
    return str(int(text) + 1)


def _in_layers(match: re.Match[str]) -> str:
    kind = "conv" if match["kind"] == "conv" else "bn"
    return f"layer{counted(match['stage'])}.{match['block']}.{kind}{match['number']}."


# A block's convolutions and normalisations, ``stages.S.B.convN`` and ``normN`` here, as most others name them.
IN_LAYERS = r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<kind>conv|norm)(?P<number>\d)\.", _in_layers
