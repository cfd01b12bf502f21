"""The model card of a file in another precision: its measurements beside those in float32, and their limits."""

from __future__ import annotations

from ctkd_search.display.tables import as_markdown
from ctkd_search.students.card import interface, usage
from ctkd_search.students.precisions import HALF, TUNED, Comparison
from ctkd_search.students.served import Metadata

_CHOSEN = (
    "- Of the two students in int8, the one that is better on these validation images was taken, so that its accuracy "
    "is partly luck."
)
_INT8_LATENCY = (
    "- Latencies are those of one processor; others have other kernels, and those without instructions for products of "
    "8 bits (VNNI, dot products) may saturate, which costs accuracy."
)
_HALF_LATENCY = (
    "- Latencies are those of one processor. Those without arithmetic in float16 convert to float32 and back: there "
    "the file is smaller, but not faster, and with torch it may be many times slower."
)
_USAGE = {
    ".onnx": "With ONNX Runtime: `images` in, `probabilities` out.",
    ".pt2": "With torch: `torch.export.load({file!r}).module()(images)`.",
}


def precision_card(file: str, origin: str, metadata: Metadata, found: Comparison, uri: str | None = None) -> str:
    """Returns the model card of a file in Markdown.

    Args:
        file: Name of the file.
        origin: Origin of the student, as in ``trial 3 of the search 'digits'``.
        metadata: Description of the student.
        found: The measurements.
        uri: The ``models:`` URI that it is registered as; None if it is not.
    """
    half = found.chosen == HALF
    suffix = file[file.rfind(".") :]
    return "\n\n".join(
        [
            f"# {file}",
            f"An image classifier in {'half precision' if half else 'int8'}: the student of {origin}, a "
            f"`{metadata.architecture}` for {len(metadata.classes)} classes, "
            f"{'converted' if half else 'quantised'} by ctkd-search.",
            interface(metadata),
            *_section(found),
            "## How to use it",
            f"{_USAGE[suffix].format(file=file)} With image files: `ctkd-search predict {file} IMAGE...`.",
            *([usage(uri, "onnxruntime")] if uri else []),
        ]
    ) + ("\n")


def _section(found: Comparison) -> list[str]:
    """Returns the part of a model card on the precision, as paragraphs in Markdown."""
    table = found.table()
    limits = [
        f"- The file is the student `{found.chosen}` of the table.",
        *([_CHOSEN] if TUNED in found.files else []),
        *(
            [_HALF_LATENCY]
            if found.calibrated_on is None
            else [
                f"- The ranges of the activations are those of {found.calibrated_on:,} training images.",
                _INT8_LATENCY,
            ]
        ),
        *([f"- {found.note}"] if found.note else []),
    ]
    heading = "## In half precision" if found.chosen == HALF else "## In int8"
    return [heading, f"{table.caption}.", as_markdown(table), "\n".join(limits)]
