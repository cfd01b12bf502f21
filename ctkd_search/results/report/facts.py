"""What the report says in words and tables."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ctkd_search import data
from ctkd_search.baselines import BASELINES
from ctkd_search.config import TrialConfig
from ctkd_search.errors import UserError
from ctkd_search.models import Geometry, build
from ctkd_search.models.cost import multiply_adds, parameters
from ctkd_search.results.leaderboard import amount, cell, percent, points
from ctkd_search.results.pareto import front, objective_values
from ctkd_search.results.report.series import Rung
from ctkd_search.results.standing import Confirmed, Estimate, confirmed, gap_to, verdicts, winner
from ctkd_search.results.store import FINISHED, STOPPED, SearchRecord, TrialRecord, contenders, ranked
from ctkd_search.space import Space
from ctkd_search.strategy import ACCURACY

_ROWS = 20


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, and whose it is (``winner``, ``baseline`` or nobody's)."""

    cells: list[str]
    role: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        heads: Its headings.
        rows: Its rows.
        numbers: Places of the columns that hold numbers.
        prose: Places of the columns that hold sentences, which may be broken.
    """

    caption: str
    heads: list[str]
    rows: list[Row]
    numbers: set[int] = field(default_factory=set)
    prose: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Card:
    """A number at the head of the page: what it is, the number, and what to know about it."""

    title: str
    number: str
    note: str


@dataclass(frozen=True)
class Standing:
    """A search and how it stands.

    Attributes:
        space: Its space.
        search: Its own record.
        trials: Its trials.
        winner: The winner, or who leads.
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
        """What the winner reached with fresh seeds, if it was confirmed."""
        return next((config.estimate for config in self.confirmed if config.trial is self.winner), None)

    @property
    def baseline(self) -> TrialRecord | None:
        """The best baseline: by its confirmed mean, or, where none was confirmed, by its own accuracy."""
        again = [config.trial for config in self.confirmed if config.trial.baseline]
        alone = [t for t in self.trials if t.baseline and t.repeats is None and t.status == FINISHED]
        return next(iter([*again, *ranked(alone)]), None)


def headline(standing: Standing) -> str:
    """The answer in a sentence."""
    teacher, student = standing.winner.values["pair"].split("/")
    found = standing.mean
    if found is None:
        reached = f"{percent(standing.winner.accuracy)} validation accuracy in trial {standing.winner.number}"
        return f"{student}, taught by {teacher}, reaches {reached}; it has not been confirmed with fresh seeds."
    return (
        f"{student}, taught by {teacher}, reaches {percent(found.mean)} validation accuracy in the mean of {found.n} "
        f"fresh seed{'s' * (found.n > 1)}{_interval(found)}."
    )


def cards(standing: Standing, splits_size: int | None) -> list[Card]:
    """The numbers at the head of the page.

    Args:
        standing: The search.
        splits_size: How many validation images there are, if that is known.
    """
    found, trial = standing.mean, standing.winner
    images = f" on {splits_size:,} images" if splits_size else ""
    if found is None:
        note = (
            f"trial {trial.number}{images}, one seed; it was chosen for this number, which is therefore a little high"
        )
        made = [Card("validation accuracy", percent(trial.accuracy), note)]
    else:
        spread = "" if math.isinf(found.half_width) else f"± {100 * found.half_width:.2f} (95 % interval), "
        made = [Card("validation accuracy", percent(found.mean), f"{spread}n = {found.n} fresh seeds{images}")]
    baseline = standing.baseline
    gap = gap_to(standing.trials, baseline, trial) if baseline else None
    if baseline and gap:
        certain = "can be told apart" if gap.excludes(0.0) else "cannot be told apart"
        made.append(Card("against the best baseline", points(gap), f"points; {certain} from {baseline.baseline}"))
    return made + _cost_cards(standing)


def _cost_cards(standing: Standing) -> list[Card]:
    teacher, student = standing.winner.values["pair"].split("/")
    made = []
    try:
        geometry = data.geometry(standing.space.dataset)
    except (UserError, OSError):  # the images have gone
        known = standing.search.costs.get(student, {})
        return [Card(name.replace("_", "-"), amount(value), student) for name, value in known.items()]
    geometry = Geometry(len(standing.search.classes), geometry.channels, geometry.image_size)
    networks = [build(name, geometry, seed=0) for name in (student, teacher)]
    for title, counts in (
        ("parameters", [parameters(network) for network in networks]),
        ("multiply-adds", [multiply_adds(network, geometry) for network in networks]),
    ):
        times = f"{student}; {teacher} has {counts[1] / counts[0]:.1f} times as many"
        made.append(Card(title, f"{counts[0]:,}", times))
    if latency := standing.search.costs.get(student, {}).get("latency_ms"):
        made.append(Card("latency", f"{latency:.2f} ms", "one image, where the trials ran"))
    return made


def in_words(config: TrialConfig) -> list[str]:
    """A CTKD config in sentences."""
    method, train = config.method, config.train
    said = [f"{config.teacher} teaches {config.student} for {config.epochs} epochs."]
    if method["alpha"] > 0:
        how = (
            f"KL divergence at temperature {cell(method, 'temperature')}"
            if method["step_loss"] == "kl"
            else "squared distance"
        )
        said.append(f"At every step it follows the scratch teacher's logits ({how}, weight {cell(method, 'alpha')}).")
    else:
        said.append("It does without a scratch teacher.")
    if method["beta"] > 0:
        layers = [str(layer) for layer in method["attention_layers"]]
        where = f"layer{'s' * (len(layers) > 1)} {listed(layers)}"
        said.append(f"The expert's attention guides it at {where} (weight {cell(method, 'beta')}).")
    else:
        said.append("It does without the expert's attention.")
    numbers = {name: cell(dataclasses.asdict(train), name) for name in ("lr", "momentum", "weight_decay")}
    said.append(
        f"Its learning rate begins at {numbers['lr']}, in batches of {train.batch_size}, with momentum "
        f"{numbers['momentum']} and weight decay {numbers['weight_decay']}."
    )
    return said


def verdict_sentences(standing: Standing) -> list[str]:
    """What can be told from the confirmation and what not."""
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in verdicts(standing.trials)]


def about(standing: Standing, sizes: tuple[int, int] | None) -> dict[str, str]:
    """What was searched, on what, when and with what; `sizes` are the training and validation images."""
    space, search = standing.space, standing.search
    explored = standing.explored
    ended = {status: sum(trial.status == status for trial in explored) for status in {t.status for t in explored}}
    how = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    experts = ", ".join(
        f"{name} ({percent(-1 if accuracy is None else accuracy)} validation accuracy)"
        for name, accuracy in sorted(search.experts.items())
    )
    found = {
        "data": f"{space.dataset.name}, {len(search.classes)} classes{_images(sizes)}",
        "begun": search.started,
        "hardware": search.hardware,
        "trials": f"{len(explored)} of up to {space.budget.epochs} epochs: {how}",
        "strategy": f"{space.strategy.sampler.name} suggests, {_stopping(space)}",
        "objectives": ", ".join(space.strategy.objectives).replace("_", " "),
        "teachers": f"{space.teachers.mode}; experts: {experts or 'none'}",
        "warm start": f"from the search {search.warm_start}" if search.warm_start else "",
        "versions": ", ".join(f"{name} {version}" for name, version in search.versions.items()),
    }
    return {name: text for name, text in found.items() if text}


def _images(sizes: tuple[int, int] | None) -> str:
    return f", {sizes[0]:,} training and {sizes[1]:,} validation images" if sizes else ""


def subtitle(standing: Standing, sizes: tuple[int, int] | None) -> str:
    """What was searched, on what and when, in a line."""
    space, search = standing.space, standing.search
    begun = datetime.datetime.fromisoformat(search.started).strftime("%-d %B %Y")
    seen = f"{space.dataset.name} ({len(search.classes)} classes{_images(sizes)})"
    return f"{len(standing.explored)} trials on {seen}, begun {begun}"


def _stopping(space: Space) -> str:
    scheduler, rungs = space.strategy.scheduler.name, space.budget.rungs()
    if scheduler == "none" or not rungs:
        return "nothing stops trials early"
    return f"{scheduler} compares after epochs {', '.join(map(str, rungs))} (factor {space.budget.reduction_factor})"


def confirmed_table(standing: Standing) -> Table | None:
    """Means of fresh seeds, and paired differences to the winner."""
    configs = standing.confirmed
    if not configs:
        return None
    first = next((config for config in configs if config.trial is standing.winner), None)
    rows = []
    for config in configs:
        found = config.estimate
        gap = config.difference(first) if first and config is not first else None
        role = "winner" if config is first else "baseline" if config.trial.baseline else ""
        what = config.trial.baseline or ("winner" if config is first else "trial")
        rows.append(
            Row(
                [
                    str(config.trial.number),
                    what,
                    config.trial.values["pair"],
                    percent(found.mean),
                    "" if math.isinf(found.half_width) else f"± {100 * found.half_width:.2f}",
                    "" if math.isnan(found.deviation) else f"{100 * found.deviation:.2f}",
                    str(found.n),
                    points(gap),
                ],
                role,
            )
        )
    heads = ["#", "what", "pair", "mean", "95 % interval", "deviation", "n", "against the winner"]
    caption = "Validation accuracy with fresh seeds, best mean first; differences in points, paired by seed."
    return Table(caption, heads, rows, {0, 3, 4, 5, 6, 7})


def trials_table(standing: Standing) -> Table:
    """The best of the trials that were searched."""
    explored = standing.explored
    names = [name for name in standing.space.entries if any(name in trial.values for trial in explored)]
    order = [standing.winner, *(trial for trial in ranked(explored) if trial is not standing.winner)]
    rows = [
        Row(
            [
                str(trial.number),
                percent(trial.accuracy),
                str(len(trial.epochs)),
                *(cell(trial.values, name) for name in names),
                trial.status,
            ],
            "winner" if trial is standing.winner else "",
        )
        for trial in order[:_ROWS]
    ]
    heads = [
        "#",
        "validation",
        "epochs",
        *(name.replace("attention_", "").replace("_", " ") for name in names),
        "ended",
    ]
    more = f"; the best {_ROWS} of {len(order)}" if len(order) > _ROWS else ""
    numeric = {3 + place for place, name in enumerate(names) if _is_number(name, explored)}
    return Table(f"Trials by their last validation accuracy, one seed each{more}.", heads, rows, {0, 1, 2} | numeric)


def _is_number(name: str, trials: Sequence[TrialRecord]) -> bool:
    return all(isinstance(trial.values.get(name, 0), int | float) for trial in trials)


def baselines_table(standing: Standing) -> Table | None:
    """What the winner is compared with."""
    baselines = ranked([trial for trial in standing.trials if trial.baseline and trial.repeats is None])
    if not baselines:
        return None
    rows = []
    for trial in baselines:
        gap = gap_to(standing.trials, standing.winner, trial) if trial.status == FINISHED else None
        name = str(trial.baseline)
        what = BASELINES.get(name, "")
        cells = [
            str(trial.number),
            name,
            what,
            trial.values["pair"],
            percent(trial.accuracy),
            points(gap),
            trial.status,
        ]
        rows.append(Row(cells, "baseline"))
    heads = ["#", "baseline", "what it is", "pair", "validation", "against the winner", "ended"]
    caption = (
        "Baselines, with the same data and budget and never stopped early. Differences in points, with an interval "
        "where both were confirmed with fresh seeds."
    )
    return Table(caption, heads, rows, {0, 4, 5}, {2})


def pareto_table(standing: Standing) -> Table | None:
    """The trials that no other one beats in everything."""
    objectives, costs = standing.space.strategy.objectives, standing.search.costs
    if len(objectives) == 1 or not costs:
        return None
    finished = [trial for trial in contenders(standing.trials) if trial.status == FINISHED]
    rows = []
    for trial in front(finished, objectives, costs):
        accuracy, *others = objective_values(trial, objectives, costs)
        cells = [str(trial.number), trial.values["pair"], percent(accuracy), *map(amount, others)]
        rows.append(Row(cells, "winner" if trial is standing.winner else ""))
    names = [name.replace("_", " ") for name in objectives if name != ACCURACY]
    heads = ["#", "pair", "validation", *names]
    return Table("Pareto front: no other trial is better in everything.", heads, rows, {0, *range(2, len(heads))})


def rungs_table(rungs: Sequence[Rung], explored: Sequence[TrialRecord]) -> Table | None:
    """How many trials each rung stopped."""
    if not rungs:
        return None
    rows = [
        Row([str(rung.epoch), str(rung.reached), str(rung.stopped), str(rung.reached - rung.stopped)]) for rung in rungs
    ]
    stopped = sum(trial.status == STOPPED for trial in explored)
    caption = f"Where trials were stopped early: {stopped} of {len(explored)}."
    return Table(caption, ["after epoch", "came so far", "stopped there", "went on"], rows, {0, 1, 2, 3})


def standing_of(space: Space, search: SearchRecord, trials: Sequence[TrialRecord]) -> Standing:
    """How a search stands.

    Raises:
        UserError: No trial has finished an epoch yet.
    """
    leader = winner(trials)
    if leader is None:
        raise UserError(f"there is nothing to report on {search.name!r} yet: no trial has finished an epoch")
    return Standing(space, search, trials, leader)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _interval(found: Estimate) -> str:
    return "" if math.isinf(found.half_width) else f" (95 % interval ± {100 * found.half_width:.2f} points)"
