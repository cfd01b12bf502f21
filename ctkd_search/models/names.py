"""Names of foreign architectures: ``SOURCE/NAME`` or ``module:factory``, followed by options.

Imports nothing heavy, because reading a space imports it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from ctkd_search.errors import UserError
from ctkd_search.plugins import is_reference

SMALL, FULL = "small", "full"
# Up to this many pixels a side, the stem is the one for small images unless the name has an option for it.
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
# Foreign architectures, by source.
ELSEWHERE = {**LIBRARIES, "own": OWN_CODE}
EXAMPLES = {
    "torchvision": ("torchvision/resnet34", "torchvision/mobilenet_v2"),
    "timm": ("timm/mobilenetv3_small_100", "timm/resnet18.a1_in1k+pretrained"),
    "own": ("my_code:make_net",),
    "pretrained": ("torchvision/resnet18+pretrained",),
    "stem": ("torchvision/resnet18+stem=full",),
    "taps": ("torchvision/resnet34+taps=layer2|layer4",),
}
# Patterns of names, for the schema; the libraries have the lists of names.
OWN_CODE_PATTERN = re.compile(r"[\w.]+:[\w.]+(?:\+[^+\s/]+)*")
PATTERN = re.compile(r"(?:(?:torchvision|timm)/[\w.-]+|[\w.]+:[\w.]+)(?:\+[^+\s/]+)*")


class Named(NamedTuple):
    """The name of a foreign architecture in its parts.

    Attributes:
        text: The whole name.
        source: ``torchvision``, ``timm``, or ``own`` for the user's own code.
        base: Name without the library and the options.
        pretrained: Whether it begins with its published weights.
        stem: ``small`` or ``full``; None to choose by the images.
        taps: Modules whose outputs are the feature maps; None to find them.
    """

    text: str
    source: str
    base: str
    pretrained: bool = False
    stem: str | None = None
    taps: tuple[str, ...] | None = None

    def bare(self) -> Named:
        """Returns the architecture without published weights."""
        return self._replace(pretrained=False)


def elsewhere(name: str) -> Named | None:
    """Returns the parts of a foreign architecture's name; None if it is not such a name.

    Raises:
        UserError: One of its options is unknown, or has no effect.
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
            raise UserError(f"{name}: the option must be given once as {OPTIONS[key]}, but got +{option}")
        given[key] = value
    if "stem" in given and given["stem"] not in (SMALL, FULL):
        raise UserError(f"{name}: the stem must be {SMALL} or {FULL}, but got {given['stem']!r}")
    if source == "own" and (meaningless := [key for key in ("pretrained", "stem") if key in given]):
        raise UserError(
            f"{name}: +{meaningless[0]} has no effect on your own code, which decides that itself; leave it out"
        )
    taps = tuple(given["taps"].split("|")) if "taps" in given else None
    if taps and (not all(taps) or len(set(taps)) < len(taps)):
        raise UserError(f"{name}: +taps must name different modules with '|' between them, but got {given['taps']!r}")
    return Named(name, source, inner, "pretrained" in given, given.get("stem"), taps)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns names that resemble an unknown one, as an addition to a message."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
