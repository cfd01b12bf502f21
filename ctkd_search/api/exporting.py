"""Files of configs and students: the format by the suffix, and the writing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search.api.options import check_whole, is_number
from ctkd_search.errors import UserError
from ctkd_search.paths import YAML_SUFFIXES

if TYPE_CHECKING:
    from rich.console import Console

# The formats in which a student is exported, and the suffixes of their files.
STUDENT_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}

# The format in which the best configs of a search are exported, to a YAML file too.
BEST_CONFIGS = "configs"

FORMATS = ("yaml", BEST_CONFIGS, *STUDENT_SUFFIXES)


def form_of(path: Path, asked: str | None) -> str:
    """Returns the format of a file, as asked for or from its suffix, which may not contradict each other.

    Raises:
        UserError: They do, the format or the suffix is unknown, or the path is a directory.
    """
    if asked is not None and asked not in FORMATS:
        raise UserError(f"the format must be one of {', '.join(FORMATS)}, but got {asked!r}")
    if os.path.isdir(path):
        raise UserError(f"cannot write {path}: it is a directory; name a file in it, as in -o {path / 'best.yaml'}")
    named = {**{suffix: form for form, suffix in STUDENT_SUFFIXES.items()}, **dict.fromkeys(YAML_SUFFIXES, "yaml")}
    known = ", ".join(f"{suffix} ({form})" for suffix, form in named.items())
    if path.suffix not in named:
        ending = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise UserError(
            f"the suffix of an exported file sets its format and must be one of {known}, but {path} {ending}"
        )
    found = named[path.suffix]
    if asked == BEST_CONFIGS and found == "yaml":
        return BEST_CONFIGS
    if asked not in (None, found):
        raise UserError(
            f"--format {asked} and -o {path} contradict each other: {path.suffix} is for {found}; change one of the two"
        )
    return found


def export_to(root: Path, name: str, path: Path, asked: str | None, trial: str | None) -> Path:
    """Writes a config, the best configs, or a student of a search to a file.

    Args:
        root: The directory of all searches.
        name: Name of the search.
        path: Path of the file.
        asked: The format; None for that of the suffix.
        trial: Number of the trial; None for the winner.

    Returns:
        The path of the file.

    Raises:
        UserError: There is no such thing, or the file cannot be written.
        WorkFailed: The student cannot be exported as a graph, or its graph does not return its probabilities; nothing
            was written.
    """
    form = form_of(path, asked)
    if form in STUDENT_SUFFIXES:
        from ctkd_search.students.export import export_student

        export_student(root, name, trial, False, form, path)
        return path
    from ctkd_search.files import write_text

    write_text(path, text_of(root, name, form, trial, False))
    return path


@dataclass(frozen=True)
class Precision:
    """The precision of a student's file, as asked for, with its options.

    Attributes:
        int8: Whether the student is quantised.
        half: Whether it is converted to half precision.
        max_drop: The accepted loss of validation accuracy in percentage points; None for the default.
        tune_epochs: Epochs of tuning in int8; None for none.
        register: Whether the int8 student is registered in MLflow too.
    """

    int8: bool = False
    half: bool = False
    max_drop: float | None = None
    tune_epochs: int | None = None
    register: bool = False

    @property
    def reduced(self) -> bool:
        """Returns whether it is another one than float32."""
        return self.int8 or self.half

    @property
    def suffix(self) -> str:
        """Returns what a file's default name ends with, before its suffix."""
        return "-int8" if self.int8 else "-half" if self.half else ""

    def check(self, form: str, final: bool) -> None:
        """Refuses what would have no effect.

        Args:
            form: The format.
            final: Whether the student is that of a final training.

        Raises:
            UserError: Something has none, or is no number of its range.
        """
        if self.int8 and self.half:
            raise UserError("--int8 and --half are two precisions; leave one of them out")
        if self.int8 and form != "onnx":
            raise UserError(f"--int8 writes an ONNX file, but the format is {form}; use --format onnx")
        if self.half and form not in STUDENT_SUFFIXES:
            raise UserError(f"--half writes a student, but the format is {form}; use --format onnx or --format torch")
        if self.max_drop is not None and not self.reduced:
            raise UserError("--max-drop is an option of students in int8 and half precision; add --int8 or --half")
        if self.tune_epochs is not None and not self.int8:
            raise UserError("--tune-epochs is an option of int8 students; add --int8, or leave it out")
        if self.register and not self.int8:
            raise UserError(
                "--register is an option of int8 students, because run and train register those in float32; add "
                "--int8, or leave it out"
            )
        if self.max_drop is not None and not (is_number(self.max_drop) and 0 <= self.max_drop <= 100):
            raise UserError(f"max_drop must be a number of percentage points from 0 to 100, but got {self.max_drop!r}")
        check_whole("tune_epochs", self.tune_epochs)
        if self.tune_epochs is not None and final:
            raise UserError(
                "--tune-epochs tunes the student of a trial, whose lessons are recorded; leave --final or "
                "--tune-epochs out"
            )


def write_reduced(
    root: Path,
    name: str,
    path: Path,
    form: str,
    precision: Precision,
    console: Console,
    *,
    trial: str | None = None,
    final: bool = False,
) -> None:
    """Writes a student to a file in another precision than float32, and prints how the two compare.

    Args:
        root: The directory of all searches.
        name: Name of the search or of the final training.
        path: Path of the file.
        form: The format.
        precision: The precision.
        console: The console to print to.
        trial: Number of the trial; None for the winner.
        final: Whether to export the student of the newest final training.

    Raises:
        UserError: See `ctkd_search.students.export_precision.export_precision`.
        WorkFailed: Likewise.
    """
    from ctkd_search.display.tables import for_terminal
    from ctkd_search.students.export_precision import Request, export_precision
    from ctkd_search.students.precisions import HALF, INT8

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    request = Request(
        *(root, name, path, INT8 if precision.int8 else HALF, form, trial, final),
        max_drop=precision.max_drop,
        tune_epochs=precision.tune_epochs or 0,
        register=precision.register,
    )
    written = export_precision(request, say)
    console.print(for_terminal(written.table))
    for line in written.lines:
        say(line)


def text_of(root: Path, name: str, form: str, trial: str | None, final: bool) -> str:
    """Returns the config of a trial, or the best configs, as YAML; see `export_to`.

    Raises:
        UserError: There is no such search or trial, or an option does not belong to the format.
    """
    from ctkd_search.display.overview import exported, exported_configs

    if form == BEST_CONFIGS:
        if final or trial is not None:
            raise UserError(
                f"--format {BEST_CONFIGS} exports the best configs of a search; leave --trial and --final out, or "
                "choose another format"
            )
        return exported_configs(root, name)
    if final:
        raise UserError("--final exports a student: add --format onnx or --format torch")
    return exported(root, name, trial)
