"""The command `ctkd-search export`: a student written to a file."""

from __future__ import annotations

from pathlib import Path

from ctkd_search.students.formats import FORMATS, write_student
from ctkd_search.students.kept import KeptStudent, final_student, trial_student


def export_student(root: Path, name: str, trial: str | None, final: bool, form: str, path: Path) -> str:
    """Writes a student to a file of its own.

    Args:
        root: The directory of all searches.
        name: Name of the search or of the final training.
        trial: Number of the trial; None for the winner.
        final: Whether to export the student of the newest final training.
        form: ``onnx`` or ``torch``.
        path: Path of the file.

    Returns:
        A line about the file.

    Raises:
        UserError: There is no such student, or the file cannot be written.
        WorkFailed: The student cannot be exported as a graph, or its graph does not return its probabilities; nothing
            was written.
    """
    return write_kept(final_student(root, name) if final else trial_student(root, name, trial), form, path)


def write_kept(kept: KeptStudent, form: str, path: Path) -> str:
    """Writes a student that is loaded already; see `export_student`."""
    write_student(kept.served, kept.metadata, path, FORMATS[form])
    return written(kept, path)


def written(kept: KeptStudent, path: Path, precision: str = "") -> str:
    """Returns the line about the file of a student, in a precision other than float32 if one is named."""
    size, channels = kept.metadata.image_size, kept.metadata.channels
    kind = f"{kept.metadata.architecture} in {precision}" if precision else kept.metadata.architecture
    return (
        f"wrote {path}: the student of {kept.origin}, {kind}, "
        f"{len(kept.metadata.classes)} classes, images of {size}x{size} with {channels} channel{'s' * (channels > 1)}; "
        f"try it with: ctkd-search predict {path} IMAGE"
    )
