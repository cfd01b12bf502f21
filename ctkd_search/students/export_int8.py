"""The command `ctkd-search export --int8`: a student quantised, measured beside itself in float32, and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctkd_search.cores import usable_cores
from ctkd_search.display.tables import Table
from ctkd_search.errors import UserError
from ctkd_search.files import write_text
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.formats import checked_onnx, compare, onnx_runner, onnx_session, write_bytes
from ctkd_search.students.int8 import FLOAT, INT8, Comparison, compared, int8_student
from ctkd_search.students.int8_card import int8_card
from ctkd_search.students.int8_images import Int8Images, images_of_final, images_of_search
from ctkd_search.students.kept import KeptStudent, final_student, trial_student
from ctkd_search.text import percent

# Percentage points: per-channel int8 costs convolutional networks less than one, and on a few hundred validation images
# one image more or less is a good part of another.
MAX_DROP = 2.0
PROPERTY = "int8"
CARD_SUFFIX = ".md"


@dataclass(frozen=True)
class Int8Export:
    """An int8 file that was written.

    Attributes:
        table: Its measurements beside those in float32.
        lines: Lines about it.
    """

    table: Table
    lines: list[str]


def export_int8(root: Path, name: str, trial: str | None, final: bool, path: Path, max_drop: float) -> Int8Export:
    """Writes a student to an ONNX file in int8, and its model card beside it.

    Args:
        root: The directory of all searches.
        name: Name of the search or of the final training.
        trial: Number of the trial; None for the winner.
        final: Whether to export the student of the newest final training.
        path: Path of the file.
        max_drop: The largest loss of validation accuracy that is accepted, in percentage points.

    Raises:
        UserError: There is no such student, its images are others by now, the file cannot be written, or the loss of
            accuracy is larger.
        WorkFailed: The student cannot be exported or quantised; nothing was written.
    """
    kept = final_student(root, name) if final else trial_student(root, name, trial)
    images = images_of_final(kept.folder) if final else images_of_search(SearchFolder(root, name))
    content, found = _quantised(kept, images, path)
    _refuse_drop(found, max_drop, path)
    write_bytes(path, content)
    card = path.with_suffix(CARD_SUFFIX)
    write_text(card, int8_card(path.name, kept.origin, kept.metadata, found))
    size, channels = kept.metadata.image_size, kept.metadata.channels
    line = (
        f"wrote {path}: the student of {kept.origin}, {kept.metadata.architecture} in int8, "
        f"{len(kept.metadata.classes)} classes, images of {size}x{size} with {channels} channel{'s' * (channels > 1)}; "
        f"try it with: ctkd-search predict {path} IMAGE"
    )
    notes = [found.note] if found.note else []
    return Int8Export(found.table(), [*notes, line, f"wrote {card}: its model card"])


def _quantised(kept: KeptStudent, images: Int8Images, path: Path) -> tuple[bytes, Comparison]:
    """Returns the content of the int8 file, and its measurements beside the float file's."""
    float_model, model = int8_student(kept.served, kept.metadata, images.calibration)
    plain = kept.metadata.as_dict()
    contents = {
        FLOAT: checked_onnx(float_model, plain, str(path)),
        INT8: checked_onnx(model, plain, str(path)),
    }
    compare(kept.served, kept.metadata, onnx_runner(onnx_session(contents[FLOAT])), str(path))
    found = compared(contents, images.validation, len(images.calibration), usable_cores(), images.note)
    return checked_onnx(model, {**plain, PROPERTY: found.as_dict()}, str(path)), found


def _refuse_drop(found: Comparison, max_drop: float, path: Path) -> None:
    if 100 * found.drop <= max_drop:
        return
    before, *_, after = (measured.accuracy for measured in found.files.values())
    raise UserError(
        f"int8 loses {100 * found.drop:.2f} points of validation accuracy ({percent(before)} in float32, "
        f"{percent(after)} in int8), more than --max-drop {max_drop:g}; {path} was not written; accept more with "
        "--max-drop, or export another trial's student with --trial"
    )
