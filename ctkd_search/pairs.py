"""Notation of pairs of architectures: ``TEACHER/STUDENT``, or ``TEACHER -> STUDENT`` if a name has a slash."""

from __future__ import annotations

from typing import NamedTuple

ARROW = "->"
RULE = "TEACHER/STUDENT, as in wrn-40-1/wrn-16-1, or TEACHER -> STUDENT, as in torchvision/resnet34 -> wrn-16-1"


class Pair(NamedTuple):
    """The names of two architectures.

    Attributes:
        teacher: The teacher's.
        student: The student's.
    """

    teacher: str
    student: str

    def __str__(self) -> str:
        """Returns the pair in the notation in which it is stored and shown, however it was typed."""
        return f"{self.teacher} {ARROW} {self.student}" if "/" in "".join(self) else "/".join(self)


def split_pair(text: str) -> Pair:
    """Returns the two names of a pair.

    Raises:
        ValueError: It is not a pair.
    """
    parts = [part.strip() for part in text.split(ARROW if ARROW in text else "/")]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"must be {RULE}, but got {text!r}")
    return Pair(*parts)


def settled_pair(text: str) -> str:
    """Returns a pair in the notation in which it is stored; any other text as it is."""
    try:
        return str(split_pair(text))
    except ValueError:
        return text


def short_name(architecture: str) -> str:
    """Returns an architecture's name for labels: without its library or module, and without its taps."""
    name, *options = architecture.split("+")
    name = name.rpartition(":")[2] if ":" in name else name.rpartition("/")[2]
    return "+".join([name, *(option for option in options if not option.startswith("taps="))])
