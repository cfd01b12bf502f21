"""The page: gathers what there is to say and to show, and writes it beside its pictures."""

from __future__ import annotations

import base64
import datetime
import re
from pathlib import Path

import jinja2

from ctkd_search import data
from ctkd_search.data import Splits
from ctkd_search.errors import UserError
from ctkd_search.files import atomic, write_text
from ctkd_search.results.config_file import config_text
from ctkd_search.results.report import facts, sections
from ctkd_search.results.report.facts import Standing
from ctkd_search.results.report.sections import Section
from ctkd_search.results.report.style import Picture
from ctkd_search.results.report.teachers import KeptTeachers
from ctkd_search.results.store import TEACHERS, SearchFolder
from ctkd_search.results.trial_configs import config_of
from ctkd_search.space_file import kept_space

PAGE = "index.html"
# The names of all pictures there may be, so that those of an earlier report do not stay beside a later one.
_PICTURES = (
    *("confirmation", "best-so-far", "learning-curves", "teaching", "attention", "cost", "importances"),
    *("parallel-coordinates", "slices-*", "pareto-*", "methods"),
)


def write_report(trials_dir: Path, name: str, directory: Path | None = None, splits: Splits | None = None) -> Path:
    """Writes the report of a search, finished or not: one HTML page with its pictures in it, and the same as files.

    Args:
        trials_dir: Directory of all searches.
        name: The search.
        directory: Where to; None for ``report`` in the search's own directory.
        splits: The search's images, where they are at hand; they are loaded otherwise.

    Returns:
        The page.

    Raises:
        UserError: There is no such search, no trial has finished an epoch, or the directory cannot be written to.
    """
    folder = SearchFolder(trials_dir, name)
    search = folder.search()
    standing = facts.standing_of(kept_space(search.space, search.teachers), search, folder.trials())
    missing = None
    if splits is None:
        try:
            splits = data.load_train(standing.space.dataset, standing.space.augment, search.fingerprint)
        except UserError as error:
            missing = f"the images cannot be loaded any more ({error})"
    if splits is not None and splits.fingerprint != search.fingerprint:
        splits, missing = None, "the images are no longer those of the search"
    teachers = KeptTeachers(trials_dir / TEACHERS, search.fingerprint)
    content = [
        sections.results(standing),
        *([compared] if (compared := sections.methods(standing)) else []),
        sections.search(standing),
        sections.parameters(standing),
        sections.teaching(standing, teachers),
        sections.attention(standing, teachers, folder, splits, missing),
        sections.cost(standing, teachers),
    ]
    where = directory or folder.report
    for pattern in _PICTURES:
        for old in where.glob(f"{pattern}.png"):
            old.unlink(missing_ok=True)
    for picture in (picture for section in content for picture in section.pictures):
        with atomic(where / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    write_text(where / PAGE, _html(standing, content, splits))
    return where / PAGE


def _html(standing: Standing, content: list[Section], splits: Splits | None) -> str:
    winner = standing.winner
    space, search = standing.space, standing.search
    sizes = (len(splits.train), len(splits.validation)) if splits else None
    running = sum(not trial.ended for trial in standing.trials)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctkd_search.results.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"base64": _base64, "minus": _minus}
    return environment.get_template("page.html.jinja").render(
        search=search,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        subtitle=facts.subtitle(standing, sizes),
        headline=facts.headline(standing),
        verdicts=facts.verdict_sentences(standing),
        cards=facts.cards(standing, len(splits.validation) if splits else None),
        words=facts.in_words(config_of(space, winner)),
        about=facts.about(standing, sizes),
        running=running,
        own_expert=space.teachers.expert.checkpoint is not None,
        sections=content,
        best_config=config_text(space, search, winner, splits),
    )


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.png).decode()


def _minus(text: str) -> str:
    """A number's hyphen as the minus sign that it stands for."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
