"""The sentences and key numbers of a report."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctkd_search import data
from ctkd_search.analysis.intervals import Estimate
from ctkd_search.analysis.standing import Confirmed, confirmed, gap_to, verdicts, winner
from ctkd_search.analysis.warm_start import brought
from ctkd_search.config import Augment, TrialConfig
from ctkd_search.display.comparisons import cell, measured_of, points
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.metrics import Metric
from ctkd_search.models import build
from ctkd_search.models.cost import multiply_adds, parameters
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import BALANCED, CONSTANT, COSINE, EFFECTIVE, LINEAR, MILESTONES, UNWEIGHTED, Recipe
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord, ranked
from ctkd_search.records.trial_configs import config_of
from ctkd_search.space.definition import Space
from ctkd_search.text import digits, percent, settings


@dataclass(frozen=True)
class KeyNumber:
    """A number at the head of the page: its title, the number, and a note."""

    title: str
    number: str
    note: str


@dataclass(frozen=True)
class SearchSummary:
    """A search with its trials and its winner.

    Attributes:
        space: Its space.
        search: Its record.
        trials: Its trials.
        winner: The winner, or the best trial so far.
    """

    space: Space
    search: SearchRecord
    trials: Sequence[TrialRecord]
    winner: TrialRecord

    @property
    def explored(self) -> list[TrialRecord]:
        """The trials that Optuna suggested."""
        return [trial for trial in self.trials if trial.explores]

    @property
    def confirmed(self) -> list[Confirmed]:
        """The configs that were confirmed, best mean first."""
        return confirmed(self.trials)

    @property
    def mean(self) -> Estimate | None:
        """The winner's mean over fresh seeds, if it was confirmed."""
        return next((config.estimate for config in self.confirmed if config.trial is self.winner), None)

    @property
    def baseline(self) -> TrialRecord | None:
        """The best baseline by confirmed means, or by the baselines' own runs where none was confirmed."""
        again = [config.trial for config in self.confirmed if config.trial.baseline]
        alone = [t for t in self.trials if t.is_baseline_run and t.status == FINISHED]
        return next(iter([*again, *ranked(alone)]), None)


def has_own_expert(space: Space) -> bool:
    """Returns whether the expert of some pair, or a member of its ensemble, has weights of the user's own."""
    experts = (space.teachers.expert.members(split_pair(pair).teacher) for pair in space.pairs())
    return any(member.checkpoint is not None for members in experts for member in members)


def headline(summary: SearchSummary) -> str:
    """Returns the main result in a sentence."""
    teacher, student = split_pair(summary.winner.values["pair"])
    found, judge = summary.mean, summary.winner.metric
    taught = make_method(config_of(summary.space, summary.winner).method).has_teacher
    whose = f"{student}, {f'taught by {teacher}' if taught else 'trained without a teacher'}, reaches"
    if found is None:
        reached = f"{value_of(judge, summary.winner.reached)} in trial {summary.winner.number}"
        return f"{whose} {reached}; it has not been confirmed with fresh seeds."
    return (
        f"{whose} {value_of(judge, judge.show(found.mean))} in the mean of {found.n} fresh "
        f"seed{'s' * (found.n > 1)}{interval(found, judge)}."
    )


def key_numbers(summary: SearchSummary, splits_size: int | None) -> list[KeyNumber]:
    """Returns the numbers at the head of the page.

    Args:
        summary: The search.
        splits_size: Number of validation images, if it is known.
    """
    found, trial = summary.mean, summary.winner
    judge = trial.metric
    images = f" on {splits_size:,} images" if splits_size else ""
    if found is None:
        note = (
            f"trial {trial.number}{images}, one seed; it was chosen by this number, which is therefore a little "
            f"{'high' if judge.goal == 'max' else 'low'}"
        )
        made = [KeyNumber(f"validation {judge.label}", trial.reached, note)]
    else:
        spread = "" if math.isinf(found.half_width) else f"± {judge.number(found.half_width)} (95 % interval), "
        made = [
            KeyNumber(f"validation {judge.label}", judge.show(found.mean), f"{spread}n = {found.n} fresh seeds{images}")
        ]
    baseline = summary.baseline
    gap = gap_to(summary.trials, baseline, trial) if baseline else None
    if baseline and gap:
        made.append(against(gap, judge, "validation", str(baseline.baseline)))
    for metric in measured_of(summary.space)[1:]:
        if (value := trial.last(metric)) is not None:
            made.append(
                KeyNumber(f"validation {metric.label}", metric.show(value), f"trial {trial.number}{images}, one seed")
            )
    return made + _cost_numbers(summary)


def against(gap: Estimate, judge: Metric, images: str, baseline: str) -> KeyNumber:
    """Returns the difference to the best baseline.

    Args:
        gap: The difference.
        judge: The metric that is compared.
        images: The images on which it is: ``validation`` or ``test``.
        baseline: The baseline's name.
    """
    if gap.n == 1:
        told = f"one seed each cannot tell it from the baseline {baseline}"
    elif math.isinf(gap.half_width):
        told = f"cannot be told apart from the baseline {baseline}: no spread was seen in {gap.n} seeds"
    else:
        told = f"{'told apart' if gap.excludes(0.0) else 'cannot be told apart'} from the baseline {baseline}"
    unit = f"{judge.difference_unit} on {images} images"
    return KeyNumber("against the best baseline", points(gap, judge), f"{unit}; {told}")


def _cost_numbers(summary: SearchSummary) -> list[KeyNumber]:
    teacher, student = split_pair(summary.winner.values["pair"])
    made = []
    try:
        geometry = data.geometry(summary.space.dataset)
    except (UserError, OSError):  # the images have gone
        known = summary.search.costs.get(student, {})
        return [KeyNumber(name.replace("_", "-"), digits(value), student) for name, value in known.items()]
    geometry = Geometry(len(summary.search.classes), geometry.channels, geometry.image_size)
    networks = [build(name, geometry, seed=0, published=False) for name in (student, teacher)]
    for title, counts in (
        ("parameters", [parameters(network) for network in networks]),
        ("multiply-adds", [multiply_adds(network, geometry) for network in networks]),
    ):
        times = f"{student}; {teacher} has {counts[1] / counts[0]:.1f} times as many"
        made.append(KeyNumber(title, f"{counts[0]:,}", times))
    if latency := summary.search.costs.get(student, {}).get("latency_ms"):
        made.append(KeyNumber("latency", f"{latency:.2f} ms", "one image, where the trials ran"))
    return made


def describe(config: TrialConfig) -> list[str]:
    """Returns the description of a config in sentences."""
    train, method = config.train, make_method(config.method)
    sentences = [
        f"{config.teacher} teaches {config.student} for {config.epochs} epochs."
        if method.has_teacher
        else f"{config.student} is trained for {config.epochs} epochs without a teacher."
    ]
    if method.needs.any_expert and (count := len(config.teachers.expert.members(config.teacher))) > 1:
        sentences.append(f"Its expert is an ensemble of {count}.")
    sentences += method.describe()
    return [*sentences, *_recipe(train), *_augmentation(config.augment)]


def _augmentation(augment: Augment) -> list[str]:
    """Returns the description of what the training images go through, besides crops and flips, in a sentence."""
    words = {
        "randaugment": "RandAugment",
        "trivialaugment": "TrivialAugment",
        "jitter": "colour jitter",
        "erasing": "random erasing",
        "mixup": "mixup",
        "cutmix": "cutmix",
    }
    given = augment.given()
    named = [word for key, word in words.items() if key in given]
    through = [f"Its training images go through {', '.join(named)}."] if named else []
    return [*through, *(["Every class is shown equally often."] if augment.sampling else [])]


_CLASS_WEIGHTS = {
    BALANCED: "Its images are weighted so that every class weighs as much.",
    EFFECTIVE: "Its images are weighted by the inverse of their class's effective number of images.",
}


def _recipe(train: Recipe) -> list[str]:
    """Returns the description of a student's recipe in sentences."""
    settings = train.effective()
    numbers = {name: cell(settings, name) for name in settings}
    momentum = f"momentum {numbers['momentum']} and " if "momentum" in settings else ""
    course = {
        MILESTONES: "drops at milestones",
        COSINE: "falls to 0 as a cosine",
        LINEAR: "falls to 0 in a straight line",
        CONSTANT: f"stays, and falls to 0 in the last {100 * train.cooldown:.3g} % of the epochs",
    }[train.schedule]
    before = f"after a warm-up of {numbers['warmup']} epochs, " if train.warmup else ""
    sentences = [
        f"Its optimizer is {train.optimizer}, in batches of {train.batch_size}, with {momentum}weight decay "
        f"{numbers['weight_decay']}.",
        f"Its learning rate has its peak at {numbers['lr']}; {before}it {course}.",
    ]
    if train.label_smoothing:
        sentences.append(f"A share of {numbers['label_smoothing']} of each label is spread over all classes.")
    if train.class_weights != UNWEIGHTED:
        sentences.append(
            _CLASS_WEIGHTS.get(str(train.class_weights), "Its images are weighted by given class weights.")
        )
    if train.average:
        sentences.append(f"Its weights are averaged over about {numbers['average']} epochs.")
    return sentences


def verdict_sentences(summary: SearchSummary) -> list[str]:
    """Returns the verdicts of the confirmation as sentences."""
    return _sentences(verdicts(summary.trials))


def warm_start_sentences(summary: SearchSummary) -> list[str]:
    """Returns what earlier searches brought to this one, as sentences."""
    return _sentences(brought(summary.search.warm_start, summary.trials))


def _sentences(lines: Sequence[str]) -> list[str]:
    return [f"{line[0].upper()}{line[1:]}." for line in lines]


def about(summary: SearchSummary, sizes: tuple[int, int] | None) -> dict[str, str]:
    """Returns facts of a search by name; `sizes` are the numbers of training and validation images."""
    space, search = summary.space, summary.search
    explored = summary.explored
    ended = {status: sum(trial.status == status for trial in explored) for status in {t.status for t in explored}}
    how = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    experts = ", ".join(
        f"{name} ({percent(-1 if accuracy is None else accuracy)} validation accuracy)"
        for name, accuracy in sorted(search.experts.items())
    )
    found = {
        "data": f"{space.dataset.name}, {len(search.classes)} classes{_images(sizes)}",
        "augment": "; ".join(f"{name}: {settings(augment.given())}" for name, augment in space.augments.items()),
        "begun": search.started,
        "hardware": search.hardware,
        "trials": f"{len(explored)} of up to {space.budget.epochs} epochs: {how}",
        "strategy": f"{space.strategy.sampler.name} suggests, {_stopping(space)}",
        "objectives": ", ".join(space.strategy.objectives).replace("_", " "),
        "teachers": f"{space.teachers.mode}; experts: {experts or 'none'}",
        "warm start": f"from {', '.join(start.name for start in search.warm_start)}" if search.warm_start else "",
        "versions": ", ".join(f"{name} {version}" for name, version in search.versions.items()),
    }
    return {name: text for name, text in found.items() if text}


def _images(sizes: tuple[int, int] | None) -> str:
    return f", {sizes[0]:,} training and {sizes[1]:,} validation images" if sizes else ""


def subtitle(summary: SearchSummary, sizes: tuple[int, int] | None) -> str:
    """Returns the subtitle: trials, data set, date, hardware and versions."""
    space, search = summary.space, summary.search
    begun = datetime.datetime.fromisoformat(search.started).strftime("%-d %B %Y")
    seen = f"{space.dataset.name} ({len(search.classes)} classes{_images(sizes)})"
    with_what = [search.hardware, *(f"{name} {search.versions.get(name)}" for name in ("ctkd-search", "torch"))]
    tools = ", ".join(text for text in with_what if text)
    return f"{len(summary.explored)} trials on {seen}, begun {begun}; {tools}"


def _stopping(space: Space) -> str:
    scheduler, ranking = space.strategy.scheduler, space.strategy.ranking
    if ranking is None or not space.rungs:
        return "trials are not stopped early"
    after = f"{scheduler.name} compares the {ranking.label} after epochs {', '.join(map(str, space.rungs))}"
    if scheduler.name == "constant":
        return f"{after}; the best {scheduler.finalists} are trained to their end"
    return f"{after} (factor {space.budget.reduction_factor})"


def summary_of(space: Space, search: SearchRecord, trials: Sequence[TrialRecord]) -> SearchSummary:
    """Returns the summary of a search.

    Raises:
        UserError: No trial has finished an epoch yet.
    """
    leader = winner(trials)
    if leader is None:
        raise UserError(
            f"search {search.name!r} cannot be reported yet: no trial has finished an epoch; wait for "
            f"the first one, or go on with: {search.again}"
        )
    return SearchSummary(space, search, trials, leader)


def interval(found: Estimate, metric: Metric) -> str:
    """Returns the interval of a mean in parentheses, for a sentence; nothing where one seed has none."""
    if math.isinf(found.half_width):
        return ""
    return f" (95 % interval ± {metric.number(found.half_width)} {metric.difference_unit})"


def value_of(metric: Metric, value: str, images: str = "validation") -> str:
    """Returns a value with its metric and the images that it is of, for a sentence."""
    return f"{value} {images} {metric.label}" if metric.goal == "max" else f"a {images} {metric.label} of {value}"
