"""Sizes on disk and durations, as users write them."""

from __future__ import annotations

import re

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?) ?([KMGTkmgt]?)[iI]?[bB]?\s*")
DURATION = re.compile(r"\s*(?=\d)(?:(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?|(\d+(?:\.\d+)?))\s*")


def size_in_bytes(text: str | int) -> int:
    """Returns the bytes of a size such as ``500MB``, ``20GB`` or ``1.5TB``.

    Raises:
        ValueError: It is not a size.
    """
    match = SIZE.fullmatch(str(text))
    if match is None:
        raise ValueError(f"must be a size such as 500MB or 20GB, but got {text!r}")
    return round(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def duration(text: str | float) -> float:
    """Returns the seconds of a duration such as ``90``, ``45s``, ``90m`` or ``1h30m``.

    Raises:
        ValueError: It is not a duration, or zero.
    """
    match = DURATION.fullmatch(str(text))
    units = (86400, 3600, 60, 1, 1)
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), units, strict=True) if part) if match else 0
    if not seconds:
        raise ValueError(f"must be a duration such as 90s, 45m or 1h30m, but got {text!r}")
    return seconds
