"""The command `ctkd-search export` with `--int8` or `--half`: a student is measured beside float32, and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search.cores import usable_cores
from ctkd_search.display.tables import Table
from ctkd_search.errors import UserError
from ctkd_search.files import check_writable, write_text
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.export import written
from ctkd_search.students.fake_quantised import FakeQuantised
from ctkd_search.students.formats import FORMATS, Format, compare, onnx_model, write_bytes
from ctkd_search.students.images import StudentImages, images_of_final, images_of_search
from ctkd_search.students.int8_registration import register_int8, target_of
from ctkd_search.students.kept import KeptStudent, final_student, trial_student
from ctkd_search.students.precision_card import precision_card
from ctkd_search.students.precisions import FLOAT, HALF, INT8, TUNED, Comparison, compared
from ctkd_search.students.quantisation import prepared, quantised
from ctkd_search.students.served import HalfStudent
from ctkd_search.students.tuning import Lessons, lessons_of, opened_model, tune
from ctkd_search.text import percent

# Percentage points. Per-channel int8 costs convolutional networks less than one, and on a few hundred validation images
# one image more or less is a good part of another; float16 changes a close decision at most.
MAX_DROPS = {INT8: 2.0, HALF: 0.5}
CARD_SUFFIX = ".md"
_WORDS = {INT8: "int8", HALF: "half precision"}


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        table: Its measurements beside those in float32.
        lines: Lines about it.
    """

    table: Table
    lines: list[str]


@dataclass(frozen=True)
class Request:
    """The request for a file in another precision.

    Attributes:
        root: The directory of all searches.
        name: Name of the search or of the final training.
        path: Path of the file.
        precision: `INT8` or `HALF`.
        form: Name of the format; ``onnx`` for `INT8`.
        trial: Number of the trial; None for the winner.
        final: Whether to export the student of the newest final training.
        max_drop: The largest loss of validation accuracy that is accepted, in percentage points; None for that of
            `MAX_DROPS`.
        tune_epochs: Epochs of fine-tuning, in `INT8`; 0 for none.
        register: Whether it is registered in MLflow too, in `INT8`.
    """

    root: Path
    name: str
    path: Path
    precision: str
    form: str = "onnx"
    trial: str | None = None
    final: bool = False
    max_drop: float | None = None
    tune_epochs: int = 0
    register: bool = False

    @property
    def accepted(self) -> float:
        """Returns the loss of accuracy that is accepted, in percentage points."""
        return MAX_DROPS[self.precision] if self.max_drop is None else self.max_drop


def export_precision(request: Request, say: Callable[[str], None]) -> Written:
    """Writes a student to a file in another precision, and its model card beside it.

    Args:
        request: The request.
        say: Prints a line while it is tuned.

    Raises:
        UserError: There is no such student, its images are others by now, the file cannot be written, it cannot be
            tuned, or the loss of accuracy is larger.
        WorkFailed: The student cannot be exported, quantised, or run in this precision, and nothing was written; or
            MLflow did not register it.
    """
    root, name, path, form = request.root, request.name, request.path, FORMATS[request.form]
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
    check_writable(path)
    target = target_of(folder, name, request.trial, request.final) if request.register else None
    if request.precision == HALF:
        graphs, calibrated_on = _half_graphs(kept, form), None
    else:
        graphs = _int8_graphs(kept, images, lessons, request.tune_epochs, say)
        calibrated_on = len(images.calibration)
    contents = {label: form.content(graph, kept.metadata.as_dict(), str(path)) for label, graph in graphs.items()}
    compare(kept.served, kept.metadata, form.runner(contents[FLOAT], 0), str(path))
    found = compared(contents, form, images.validation, usable_cores(), calibrated_on, images.note)
    _refuse_drop(found, request)
    properties = {**kept.metadata.as_dict(), request.precision: found.as_dict()}
    write_bytes(path, form.content(graphs[found.chosen], properties, str(path)))
    card = path.with_name(path.name + CARD_SUFFIX)
    text = precision_card(path.name, kept.origin, kept.metadata, found, target.uri if target else None)
    write_text(card, text)
    lines = [*_notes(found), written(kept, path, _WORDS[request.precision]), f"wrote {card}: its model card"]
    if target:
        lines.append(register_int8(target, path, kept.metadata, images.calibration.pixels, text, found))
    return Written(found.table(), lines)


def _half_graphs(kept: KeptStudent, form: Format) -> Mapping[str, Any]:
    """Returns the graphs of a student in half precision and before, by the names under which they are compared."""
    networks = {FLOAT: kept.served, HALF: HalfStudent(kept.served)}
    return {label: form.graph(network, kept.metadata) for label, network in networks.items()}


def _int8_graphs(
    kept: KeptStudent, images: StudentImages, lessons: Lessons | None, epochs: int, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Returns the graphs of a student in int8 and before, by the names under which they are compared."""
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


def _refuse_drop(found: Comparison, request: Request) -> None:
    lost = 100 * found.drop
    if lost <= request.accepted:
        return
    words = _WORDS[request.precision]
    before, after = (percent(found.files[name].accuracy) for name in (FLOAT, found.chosen))
    tuned = f" after {request.tune_epochs} epochs of tuning" if request.tune_epochs else ""
    ways = [f"accept it with --max-drop {math.ceil(10 * lost) / 10:g}"]
    if not request.final:
        if request.precision == INT8:
            ways.append("tune longer with --tune-epochs" if request.tune_epochs else "tune it with --tune-epochs 2")
        ways.append("export another trial's student with --trial")
    raise UserError(
        f"{words} loses {lost:.2f} points of validation accuracy ({before} in float32, {after} in {words}{tuned}), "
        f"more than --max-drop {request.accepted:g}; {request.path} was not written; {', '.join(ways[:-1])}"
        f"{', or ' if len(ways) > 1 else ''}{ways[-1]}"
    )
