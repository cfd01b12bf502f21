"""How architectures that are made elsewhere are named: ``SOURCE/NAME`` or ``module:factory``, and options behind it.

Imports nothing heavy: a space is read with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from ctkd_search.errors import UserError
from ctkd_search.plugins import is_reference

SMALL, FULL = "small", "full"
# Up to this many pixels a side, the stem is the one for small images unless the name says otherwise.
SMALL_UP_TO = 64
LIBRARIES = {
    "torchvision": "torchvision/NAME (any classifier of torchvision, as in torchvision/resnet34)",
    "timm": "timm/NAME (any classifier of timm, as in timm/mobilenetv3_small_100)",
}
OWN_CODE = "package.module:factory (your own: factory(classes=, channels=, image_size=) returns an nn.Module)"
OPTIONS = {
    "pretrained": "+pretrained (begins with its published weights)",
    "stem": "+stem=small or +stem=full (whether the first stride and pooling are left out)",
    "taps": "+taps=MODULE|MODULE (the modules whose outputs are the feature maps)",
}
# All that is made elsewhere, by source.
ELSEWHERE = {**LIBRARIES, "own": OWN_CODE}
EXAMPLES = {
    "torchvision": ("torchvision/resnet34", "torchvision/mobilenet_v2"),
    "timm": ("timm/mobilenetv3_small_100", "timm/resnet18.a1_in1k+pretrained"),
    "own": ("my_code:make_net",),
    "pretrained": ("torchvision/resnet18+pretrained",),
    "stem": ("torchvision/resnet18+stem=full",),
    "taps": ("torchvision/resnet34+taps=layer2|layer4",),
}
# What a name may look like, for the schema; the libraries know which names there are.
OWN_CODE_PATTERN = re.compile(r"[\w.]+:[\w.]+(?:\+[^+\s/]+)*")
PATTERN = re.compile(r"(?:(?:torchvision|timm)/[\w.-]+|[\w.]+:[\w.]+)(?:\+[^+\s/]+)*")


class Named(NamedTuple):
    """An architecture that is made elsewhere.

    Attributes:
        text: The whole name.
        source: ``torchvision``, ``timm``, or ``own`` for the user's own code.
        base: The name there: without the library and the options.
        pretrained: Whether it begins with its published weights.
        stem: ``small`` or ``full``; None for what suits the images.
        taps: The modules whose outputs are the feature maps; None where they are found.
    """

    text: str
    source: str
    base: str
    pretrained: bool = False
    stem: str | None = None
    taps: tuple[str, ...] | None = None

    def bare(self) -> Named:
        """The same architecture, with initial weights of its own."""
        return self._replace(pretrained=False)


def elsewhere(name: str) -> Named | None:
    """What a name means; None where it names none of the architectures that are made elsewhere.

    Raises:
        UserError: An option behind it is unknown, or has no meaning.
    """
    base, *options = name.split("+")
    library, slash, rest = base.partition("/")
    if is_reference(base):
        source, inner = "own", base
    elif slash and library in LIBRARIES:
        source, inner = library, rest
    else:
        return None
    given: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if key not in OPTIONS:
            raise UserError(
                f"{name}: unknown option +{key}{nearest(key, OPTIONS)}; there are: {'; '.join(OPTIONS.values())}"
            )
        if key in given or (key == "pretrained") == bool(equals) or (equals and not value):
            raise UserError(f"{name}: +{option} must be {OPTIONS[key]}, once")
        given[key] = value
    if "stem" in given and given["stem"] not in (SMALL, FULL):
        raise UserError(f"{name}: the stem must be {SMALL} or {FULL}, but got {given['stem']!r}")
    if source == "own" and (meaningless := [key for key in ("pretrained", "stem") if key in given]):
        raise UserError(f"{name}: +{meaningless[0]} has no meaning for your own code, which settles that itself")
    taps = tuple(given["taps"].split("|")) if "taps" in given else None
    if taps and (not all(taps) or len(set(taps)) < len(taps)):
        raise UserError(f"{name}: +taps must name different modules with '|' between them, but got {given['taps']!r}")
    return Named(name, source, inner, "pretrained" in given, given.get("stem"), taps)


def nearest(name: str, known: Iterable[str]) -> str:
    """What to add to a message on an unknown name: those that look like it."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
