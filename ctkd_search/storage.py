"""The types in which recorded outputs of teachers are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# Classes of the largest logits are stored in 16 bits.
MOST_CLASSES = 1 << 16
_TYPES = {"float16": 2, "float32": 4}
STORAGE_SCHEMA = {
    "anyOf": [
        {"enum": list(_TYPES)},
        {
            "type": "object",
            "properties": {
                "top": {"type": "integer", "minimum": 1, "description": "Number of logits that are kept of each image"}
            },
            "required": ["top"],
            "additionalProperties": False,
        },
    ]
}


@dataclass(frozen=True)
class TopLogits:
    """Storage of the largest logits of each image; all other outputs are stored in float16.

    Attributes:
        top: Number of logits that are kept, with their classes and three numbers about all others.
    """

    top: int

    def __str__(self) -> str:
        """Returns its name in the names of records."""
        return f"top-{self.top}"

    @property
    def words(self) -> int:
        """Returns the length of an image's row: words of 16 bits for each logit and its class, three for the others."""
        return 2 * self.top + 3


Storage = Literal["float16", "float32"] | TopLogits
# Bytes of the scale of a map whose numbers are bytes.
SCALE_BYTES = 4


@dataclass(frozen=True)
class MapForm:
    """The form in which recorded attention maps are stored.

    Attributes:
        size: Largest side of a map; larger ones are averaged down to it. None for the maps as they are.
        type: ``uint8`` for a byte for each number and a scale for each map; None for the type of other outputs.
    """

    size: int | None = None
    type: Literal["uint8"] | None = None

    def named(self, storage: Storage) -> str:
        """Returns its name in the names of records."""
        kind = self.type or array_type(storage)
        return kind if self.size is None else f"{kind}-{self.size}"

    def map_bytes(self, positions: int, storage: Storage) -> int:
        """Returns the bytes of a map of so many positions."""
        kept = positions if self.size is None else min(positions, self.size**2)
        return kept + SCALE_BYTES if self.type else number_bytes(storage) * kept


def read_storage(value: Any) -> Storage:
    """Returns a storage from a space or a config.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, TopLogits) or (isinstance(value, str) and value in _TYPES):
        return value  # type: ignore[return-value]
    if isinstance(value, dict) and value.keys() == {"top"} and type(value["top"]) is int and value["top"] >= 1:
        return TopLogits(value["top"])
    names = " or ".join(repr(name) for name in _TYPES)
    raise ValueError(f"must be {names}, or {{top: K}} for the K largest logits, but got {value!r}")


def array_type(storage: Storage) -> str:
    """Returns the type of the numbers of all outputs but logits, and of logits that are all kept."""
    return "float16" if isinstance(storage, TopLogits) else storage


def logit_bytes(storage: Storage, classes: int) -> int:
    """Returns the bytes of an image's logits."""
    return 2 * storage.words if isinstance(storage, TopLogits) else _TYPES[storage] * classes


def number_bytes(storage: Storage) -> int:
    """Returns the bytes of a number of any other output."""
    return _TYPES[array_type(storage)]
