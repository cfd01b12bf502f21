"""The model card of an int8 file: its measurements beside those in float32, and their limits."""

from __future__ import annotations

from ctkd_search.display.tables import as_markdown
from ctkd_search.students.card import interface, usage
from ctkd_search.students.int8 import TUNED, Comparison
from ctkd_search.students.served import Metadata

_CHOSEN = (
    "- Of the two students in int8, the one that is better on these validation images was taken, so that its accuracy "
    "is partly luck."
)


def int8_card(file: str, origin: str, metadata: Metadata, found: Comparison, uri: str | None = None) -> str:
    """Returns the model card of an int8 file in Markdown.

    Args:
        file: Name of the file.
        origin: Origin of the student, as in ``trial 3 of the search 'digits'``.
        metadata: Description of the student.
        found: The measurements.
        uri: The ``models:`` URI that it is registered as; None if it is not.
    """
    return "\n\n".join(
        [
            f"# {file}",
            f"An image classifier in int8: the student of {origin}, a `{metadata.architecture}` for "
            f"{len(metadata.classes)} classes, quantised by ctkd-search.",
            interface(metadata),
            *int8_section(found),
            "## How to use it",
            f"With ONNX Runtime: `images` in, `probabilities` out. With image files: `ctkd-search predict {file} "
            "IMAGE...`.",
            *([usage(uri, "onnxruntime")] if uri else []),
        ]
    ) + ("\n")


def int8_section(found: Comparison) -> list[str]:
    """Returns the part of a model card on int8, as paragraphs in Markdown."""
    table = found.table()
    limits = [
        f"- The file is the student `{found.chosen}` of the table.",
        *([_CHOSEN] if TUNED in found.files else []),
        f"- The ranges of the activations are those of {found.calibrated_on:,} training images.",
        "- Latencies are those of one processor; others have other kernels, and those without instructions for "
        "products of 8 bits (VNNI, dot products) may saturate, which costs accuracy.",
        *([f"- {found.note}"] if found.note else []),
    ]
    return ["## In int8", f"{table.caption}.", as_markdown(table), "\n".join(limits)]
