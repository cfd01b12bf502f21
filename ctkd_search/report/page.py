"""The page of a report: collects its sections and writes them with their pictures."""

from __future__ import annotations

import base64
import datetime
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jinja2

from ctkd_search import data
from ctkd_search.data import Splits
from ctkd_search.errors import UserError
from ctkd_search.files import atomic, write_text
from ctkd_search.records.config_file import config_text
from ctkd_search.records.store import TEACHERS, SearchFolder
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report import facts
from ctkd_search.report.fonts import fonts_for
from ctkd_search.report.sections import Material, Section, cause, every_section, raise_if_disk_full
from ctkd_search.report.style import Picture
from ctkd_search.report.teachers import KeptTeachers
from ctkd_search.space.reader import kept_space

PAGE = "index.html"
T = TypeVar("T")
# The names of all possible pictures, so that those of an earlier report are removed.
_PICTURES = (
    *("confirmation", "best-so-far", "learning-curves", "teaching", "attention", "cost", "importances"),
    *("parallel-coordinates", "slices-*", "pareto-*", "methods", "final"),
)


def write_report(
    trials_dir: Path,
    name: str,
    directory: Path | None = None,
    splits: Splits | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Writes the report of a search, finished or not: one HTML page with its pictures, and the pictures as files.

    Args:
        trials_dir: Directory of all searches.
        name: Name of the search.
        directory: The directory to write to; None for ``report`` in the search's own directory.
        splits: The search's images, where they are loaded already.
        say: Prints a line for each part that could not be made; None for standard error.

    Returns:
        The path of the page.

    Raises:
        UserError: There is no such search, no trial has finished an epoch, or the directory is not writable.
    """
    folder = SearchFolder(trials_dir, name)
    search = folder.search()
    summary = facts.summary_of(kept_space(search.space, search.teachers), search, folder.readable_trials())
    missing = None
    if splits is None:
        try:
            splits = data.load_train(summary.space.dataset, summary.space.augmentations, search.fingerprint)
        except UserError as error:
            missing = f"the images cannot be loaded any more ({error})"
    if splits is not None and splits.fingerprint != search.fingerprint:
        splits, missing = None, "the images are no longer those of the search"
    teachers = KeptTeachers(trials_dir / TEACHERS, search.fingerprint)
    with fonts_for(search.classes):
        material = Material(summary, teachers, folder, splits, missing)
        content = every_section(material)
    where = directory or folder.report
    if (where / PAGE).is_file():  # without an earlier report, such pictures are others'
        for pattern in _PICTURES:
            for old in where.glob(f"{pattern}.png"):
                old.unlink(missing_ok=True)
    for picture in (picture for section in content for picture in section.pictures):
        with atomic(where / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    head = Section("head")
    page = _html(material, content, head)
    for line in (line for section in (head, *content) for line in section.failed):
        (say or _to_stderr)(f"in the report, {line[0].lower()}{line[1:]}")
    write_text(where / PAGE, page)
    return where / PAGE


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _html(material: Material, content: list[Section], head: Section) -> str:
    """Returns the page; failures of parts of its head are added to `head`."""

    def part(what: str, make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except Exception as error:  # a damaged record, or a missing network: the rest of the page is valid without it
            raise_if_disk_full(error)
            head.failed.append(f"{what} left out: {cause(error)}")
            return otherwise

    summary, splits = material.summary, material.splits
    winner = summary.winner
    no_sentences: list[str] = []
    no_numbers: list[facts.KeyNumber] = []
    no_facts: dict[str, str] = {}
    space, search = summary.space, summary.search
    sizes = (len(splits.train), len(splits.validation)) if splits else None
    tested = part("The test result is", lambda: material.final[0], None)
    running = sum(not trial.ended for trial in summary.trials)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctkd_search.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"base64": _base64, "minus": _minus}
    return environment.get_template("page.html.jinja").render(
        search=search,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        subtitle=part("The subtitle is", lambda: facts.subtitle(summary, sizes), ""),
        headline=part("The main result is", lambda: facts.headline(summary), ""),
        result=part("The test result is", lambda: tested.result(summary) if tested else "", ""),
        test_numbers=part("The test result is", lambda: tested.key_numbers() if tested else [], no_numbers),
        verdicts=part("The verdicts are", lambda: facts.verdict_sentences(summary), no_sentences),
        key_numbers=part(
            "The key numbers are",
            lambda: facts.key_numbers(summary, len(splits.validation) if splits else None),
            no_numbers,
        ),
        config_sentences=part(
            "The description of the config is", lambda: facts.describe(config_of(space, winner)), no_sentences
        ),
        about=part("The facts of the search are", lambda: facts.about(summary, sizes), no_facts),
        running=running,
        own_expert=facts.has_own_expert(space),
        sections=content,
        tested=tested is not None,
        best_config=part("The best config is", lambda: config_text(space, search, winner, splits), "left out"),
        left_out=head.failed,
    )


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.png).decode()


def _minus(text: str) -> str:
    """Returns a text with minus signs in place of the hyphens before numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
