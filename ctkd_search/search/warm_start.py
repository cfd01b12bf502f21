"""The start of a search from earlier ones: their results where they can be compared, else their best configs."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkd_search.analysis.best_configs import CONFIGS, best_configs
from ctkd_search.analysis.warm_start import start_sentence
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.metrics import OBJECTIVES
from ctkd_search.paths import YAML_SUFFIXES, user_path
from ctkd_search.records.config_list import ConfigList, published_names, read_list, read_published
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord, names
from ctkd_search.records.trial_configs import augment_of
from ctkd_search.records.warm_start import TriedConfig, WarmStart, asked_names
from ctkd_search.search.earlier import Earlier, incomparable, read_earlier, results_in
from ctkd_search.space.definition import Space
from ctkd_search.space.transfer import Elsewhere, transfer
from ctkd_search.text import amount

if TYPE_CHECKING:
    from ctkd_search.search.study import Study

# The name that stands for all searches whose best configs come with the package.
PUBLISHED = "published"
# Number of earlier searches that are named as advice, at most.
_ADVISED = 3


@dataclass(frozen=True)
class _Config:
    """A config that may be tried first: the number of its trial, its objective value with its unit, and its values."""

    trial: int
    reached: str
    config: Elsewhere


@dataclass(frozen=True)
class Source:
    """An earlier search, as it was read.

    Attributes:
        asked: The name that the user gave.
        name: Its name in messages.
        configs: Its best configs.
        earlier: The search itself, with its results; None if only its configs are known.
        reasons: Reasons why its results cannot be used, from `compared`.
        path: Its file or its directory; None if it comes with the package.
    """

    asked: str
    name: str
    configs: Sequence[_Config] = field(repr=False)
    earlier: Earlier | None = field(default=None, repr=False)
    reasons: Sequence[str] = ()
    path: Path | None = field(default=None, repr=False)


def read_sources(given: Sequence[str], root: Path, own: str) -> list[Source]:
    """Reads the earlier searches that a search is to begin from.

    Args:
        given: Names of searches, files of best configs, ``published`` for all those that come with the package, or
            ``published/NAME`` for one of them.
        root: The directory of all searches.
        own: Name of the search that is to begin.

    Raises:
        UserError: There is no such search or file, it cannot be read, or it is named twice.
    """
    sources: list[Source] = []
    for name in given:
        for source in _sources(name, root, own):
            # A path may be written in several ways.
            if any((source.path or source.name) == (other.path or other.name) for other in sources):
                raise UserError(f"--warm-start {source.name} is given twice; name it once")
            sources.append(source)
    return sources


def compared(sources: Sequence[Source], space: Space, fingerprint: str) -> list[Source]:
    """Returns earlier searches with the reasons why their results cannot be used, before anything is begun.

    Args:
        sources: The earlier searches.
        space: The new search's space, its ``mode: auto`` resolved, and nothing else chosen from the machine.
        fingerprint: Hash of its training images.

    Raises:
        UserError: Nothing of what a name stands for can be used.
    """
    found = [
        dataclasses.replace(source, reasons=incomparable(source.earlier, space, fingerprint))
        if source.earlier is not None
        else source
        for source in sources
    ]
    for name in dict.fromkeys(source.asked for source in found):
        if not any(_brings_something(source, space) for source in found if source.asked == name):
            why = _lacking(found, name, space)
            raise UserError(f"--warm-start {name} brings nothing to this search, because {why}; leave it out")
    return found


def _brings_something(source: Source, space: Space) -> bool:
    """Returns whether a source has a result that counts in a space, or a config that can be tried there."""
    if any(stored is not None for _, stored in _results(source, space)):
        return True
    return any(transfer(space, one.config) for one in source.configs)


def _results(source: Source, space: Space) -> list[tuple[TrialRecord, dict[str, Any] | None]]:
    """Returns the results of a source that can be compared, each with its values in a space, or None if outside it."""
    if source.earlier is None or source.reasons:
        return []
    return results_in(space, source.earlier.space, source.earlier.trials)


def _lacking(sources: Sequence[Source], name: str, space: Space) -> str:
    """Returns why a name brings nothing, for a sentence with because."""
    asked = [source for source in sources if source.asked == name]
    found = dict.fromkeys(one.config.method for each in asked for one in each.configs)
    if not found:
        outside = sum(len(_results(source, space)) for source in asked)
        return "no trial of it has finished" + (
            f" and none of its {amount(outside, 'result')} is in this space" if outside else ""
        )
    return f"the methods of its configs ({', '.join(found)}) are not searched here"


def advice(root: Path, own: str, fingerprint: str) -> str | None:
    """Returns a line about earlier searches on the same images, from which a new one could begin.

    Args:
        root: The directory of all searches.
        own: Name of the new search.
        fingerprint: Hash of its training images.

    Returns:
        The line, which names the newest ones; None if none has finished.
    """
    found = []
    for name in names(root):
        try:
            record = SearchFolder(root, name).search()
        except UserError:  # it is damaged, or of another version, and could not be begun from
            continue
        if name != own and record.finished and record.fingerprint == fingerprint:
            found.append((record.started, name))
    if not found:
        return None
    newest = [name for _, name in sorted(found, reverse=True)[:_ADVISED]]
    which, one = ("search", "it") if len(newest) == 1 else ("searches", "the newest")
    named = ", ".join(newest)
    return f"earlier {which} on the same images: {named}; --warm-start {newest[0]} would begin from {one}"


def outstanding(record: SearchRecord) -> list[str]:
    """Returns the names that a search still has to begin from: all of them, until all is decided."""
    return [] if all(start.settled for start in record.warm_start) else asked_names(record.warm_start)


def begin_study(
    study: Study, space: Space, record: SearchRecord, sources: Sequence[Source], say: Callable[[str], None]
) -> None:
    """Gives Optuna what a search begins with: results of earlier ones, their best configs, and the default settings.

    The first trial at a rung goes on whatever it shows, so that the most promising ones are begun first. What was given
    before an interruption is not given twice.

    Args:
        study: The search's study.
        space: The search's space.
        record: The search's record, which is told what was used.
        sources: The earlier searches, compared; none if all was decided before an interruption.
        say: Prints a line to the user.
    """
    starts = [_take_results(study, source) for source in sources]
    _offer_configs(
        study, space, [(source, start) for source, start in zip(sources, starts, strict=True) if not start.taken]
    )
    for start in starts:
        say(start_sentence(start))
    study.begin()
    if starts:
        record.warm_start = starts


def _sources(name: str, root: Path, own: str) -> list[Source]:
    """Reads what one name stands for."""
    if name == PUBLISHED:
        return [_published(name, each) for each in published_names()]
    if name.startswith(f"{PUBLISHED}/") and Path(name).suffix.lower() not in YAML_SUFFIXES:
        return [_published(name, name.removeprefix(f"{PUBLISHED}/"))]
    if name == own:
        raise UserError(f"--warm-start {name} is the search itself; name another one, or leave it out")
    folder = SearchFolder(root, name)
    if not folder.exists() and Path(name).suffix.lower() in YAML_SUFFIXES:
        listed = read_list(user_path(name))
        return [Source(name, name, _listed_configs(listed), path=user_path(name).resolve())]
    if not folder.exists() and difflib.get_close_matches(name, [*names(root), PUBLISHED], n=1) == [PUBLISHED]:
        raise UserError(f"there is no search {name!r} in {root}; did you mean {PUBLISHED}?")
    earlier = read_earlier(folder)
    return [Source(name, name, _best_configs(earlier), earlier, path=folder.path.resolve())]


def _published(asked: str, name: str) -> Source:
    known = published_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UserError(
            f"--warm-start {asked}: there is no published search {name!r}; there are: {', '.join(known)}"
            f"{f'; did you mean {PUBLISHED}/{near[0]}?' if near else ''}"
        )
    return Source(asked, f"{PUBLISHED}/{name}", _listed_configs(read_published(name)))


def _listed_configs(listed: ConfigList) -> list[_Config]:
    metric = OBJECTIVES[listed.objective]
    return [
        _Config(one.trial, metric.show(one.value), Elsewhere(one.values, one.augment, listed.geometry, listed.epochs))
        for one in listed.configs
    ]


def _best_configs(earlier: Earlier) -> list[_Config]:
    space, sizes = earlier.space, earlier.record.geometry
    geometry = None if sizes is None else Geometry(*sizes)
    return [
        _Config(
            best.trial.number,
            best.trial.metric.show(best.value),
            Elsewhere(best.trial.values, augment_of(space, best.trial).given(), geometry, space.budget.epochs),
        )
        for best in best_configs(earlier.trials, CONFIGS)
    ]


def _take_results(study: Study, source: Source) -> WarmStart:
    """Adds the results of an earlier search to the study, if they can be compared; returns what was used of it."""
    start = WarmStart(source.asked, source.name, settled=True, reasons=list(source.reasons))
    if source.earlier is not None and not start.reasons:
        start.taken, start.there = study.take(source.name, source.earlier.space, source.earlier.trials)
    return start


def _offer_configs(study: Study, space: Space, sources: Sequence[tuple[Source, WarmStart]]) -> None:
    """Enqueues the best configs of earlier searches, as far as this space has their methods.

    The best one of each method of each search comes before the second ones. Among equals, searches on images of the
    same size and as many classes come first, then those that were named first. Where several methods are searched, no
    method has all its trials from earlier searches, and none takes those of another.
    """
    ranks: Counter[tuple[str, str]] = Counter()
    offers = []
    for source, start in sources:
        for one in source.configs:
            point = transfer(space, one.config)
            if point is None:
                start.left_out.append(f"trial {one.trial} (method {one.config.method} is not searched here)")
                continue
            rank = ranks[source.name, one.config.method]
            ranks[source.name, one.config.method] += 1
            offers.append((rank, one.config.geometry != space.geometry, source, start, one, point))
    methods = space.methods()
    most = max(1, space.budget.trials // len(methods) - 1) if len(methods) > 1 else None
    offered: Counter[str] = Counter()
    for *_, source, start, one, point in sorted(offers, key=lambda offer: offer[:2]):
        method = one.config.method
        if offered[method] == most:
            start.left_out.append(f"trial {one.trial} (of {method}, {most} is enough for {space.budget.trials} trials)")
            continue
        known = not study.offer(point.stored, f"{source.name}/{one.trial}")
        offered[method] += not known
        start.configs.append(TriedConfig(one.trial, one.reached, point.stored, point.changed, known))
