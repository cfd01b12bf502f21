"""The command `ctkd-search export --int8`: a student quantised, measured beside itself in float32, and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search.cores import usable_cores
from ctkd_search.display.tables import Table
from ctkd_search.errors import UserError
from ctkd_search.files import write_text
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.fake_quantised import FakeQuantised
from ctkd_search.students.formats import checked_onnx, compare, onnx_model, onnx_runner, onnx_session, write_bytes
from ctkd_search.students.int8 import FLOAT, INT8, TUNED, Comparison, compared
from ctkd_search.students.int8_card import int8_card
from ctkd_search.students.int8_images import Int8Images, images_of_final, images_of_search
from ctkd_search.students.int8_registration import register_int8, target_of
from ctkd_search.students.kept import KeptStudent, final_student, trial_student
from ctkd_search.students.quantisation import prepared, quantised
from ctkd_search.students.tuning import Lessons, lessons_of, opened_model, tune
from ctkd_search.text import percent

if TYPE_CHECKING:
    from onnx import ModelProto

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


@dataclass(frozen=True)
class Int8Request:
    """The request for an int8 file.

    Attributes:
        root: The directory of all searches.
        name: Name of the search or of the final training.
        path: Path of the file.
        trial: Number of the trial; None for the winner.
        final: Whether to export the student of the newest final training.
        max_drop: The largest loss of validation accuracy that is accepted, in percentage points.
        tune_epochs: Epochs of fine-tuning; 0 for none.
        register: Whether it is registered in MLflow too.
    """

    root: Path
    name: str
    path: Path
    trial: str | None = None
    final: bool = False
    max_drop: float = MAX_DROP
    tune_epochs: int = 0
    register: bool = False


def export_int8(request: Int8Request, say: Callable[[str], None]) -> Int8Export:
    """Writes a student to an ONNX file in int8, and its model card beside it.

    Args:
        request: The request.
        say: Prints a line while it is tuned.

    Raises:
        UserError: There is no such student, its images are others by now, the file cannot be written, it cannot be
            tuned, or the loss of accuracy is larger.
        WorkFailed: The student cannot be exported or quantised, and nothing was written; or MLflow did not register it.
    """
    root, name, path = request.root, request.name, request.path
    if request.final:
        kept = final_student(root, name)
        folder = SearchFolder(kept.folder.parent, kept.folder.name)
        images, lessons = images_of_final(kept.folder), None
    else:
        kept = trial_student(root, name, request.trial)
        folder = SearchFolder(root, name)
        images = images_of_search(folder)
        tuned = request.tune_epochs
        lessons = lessons_of(folder, request.trial, images.splits, tuned) if tuned else None
    # Before the quantisation, which takes long.
    target = target_of(folder, name, request.trial, request.final) if request.register else None
    models = _models(kept, images, lessons, request.tune_epochs, say)
    contents = {label: checked_onnx(model, kept.metadata.as_dict(), str(path)) for label, model in models.items()}
    compare(kept.served, kept.metadata, onnx_runner(onnx_session(contents[FLOAT])), str(path))
    found = compared(contents, images.validation, len(images.calibration), usable_cores(), images.note)
    _refuse_drop(found, request)
    properties = {**kept.metadata.as_dict(), PROPERTY: found.as_dict()}
    write_bytes(path, checked_onnx(models[found.chosen], properties, str(path)))
    card = path.with_suffix(CARD_SUFFIX)
    text = int8_card(path.name, kept.origin, kept.metadata, found, target.uri if target else None)
    write_text(card, text)
    lines = [*_notes(found), _written(kept, path), f"wrote {card}: its model card"]
    if target:
        lines.append(register_int8(target, path, kept.metadata, images.calibration.pixels, text, found))
    return Int8Export(found.table(), lines)


def _models(
    kept: KeptStudent, images: Int8Images, lessons: Lessons | None, epochs: int, say: Callable[[str], None]
) -> dict[str, ModelProto]:
    """Returns the graphs of a student, by the names under which they are compared."""
    if lessons is None:
        model = onnx_model(kept.served, kept.metadata)
        return {FLOAT: model, INT8: quantised(prepared(model), images.calibration)}
    model, parts = opened_model(kept.served, kept.metadata)
    plain = prepared(model)
    rounded = quantised(plain, images.calibration)
    network = FakeQuantised(rounded, plain, parts, kept.served.student)
    tune(network, lessons, epochs, say)
    return {FLOAT: model, INT8: rounded, TUNED: network.trained_model()}


def _notes(found: Comparison) -> list[str]:
    notes = [found.note] if found.note else []
    if TUNED in found.files and found.chosen != TUNED:
        notes.append("the tuning has cost accuracy; the student is written as it was before it")
    return notes


def _written(kept: KeptStudent, path: Path) -> str:
    size, channels = kept.metadata.image_size, kept.metadata.channels
    return (
        f"wrote {path}: the student of {kept.origin}, {kept.metadata.architecture} in int8, "
        f"{len(kept.metadata.classes)} classes, images of {size}x{size} with {channels} channel{'s' * (channels > 1)}; "
        f"try it with: ctkd-search predict {path} IMAGE"
    )


def _refuse_drop(found: Comparison, request: Int8Request) -> None:
    lost = 100 * found.drop
    if lost <= request.max_drop:
        return
    before, after = (percent(found.files[name].accuracy) for name in (FLOAT, found.chosen))
    tuned = f" after {request.tune_epochs} epochs of tuning" if request.tune_epochs else ""
    ways = ["accept more with --max-drop"]
    if not request.final:
        ways.append("tune longer with --tune-epochs" if request.tune_epochs else "tune it with --tune-epochs 2")
        ways.append("export another trial's student with --trial")
    raise UserError(
        f"int8 loses {lost:.2f} points of validation accuracy ({before} in float32, {after} in int8{tuned}), more than "
        f"--max-drop {request.max_drop:g}; {request.path} was not written; {', '.join(ways[:-1])}"
        f"{', or ' if len(ways) > 1 else ''}{ways[-1]}"
    )
