"""Results of a final training. The only code that reads the test split."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ctkd_search import data
from ctkd_search.analysis.intervals import Estimate, Family, estimate
from ctkd_search.analysis.standing import verdict
from ctkd_search.config import TrialConfig
from ctkd_search.display.comparisons import points, spread
from ctkd_search.display.tables import WINNER, Row, Table, as_markdown, for_terminal
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.files import atomic, write_text
from ctkd_search.final.plan import FinalPlan
from ctkd_search.metrics import ALWAYS, METRICS, Metric
from ctkd_search.records.store import DIVERGED, FINISHED, TrialRecord
from ctkd_search.students.served import ServedStudent
from ctkd_search.versions import STUDENT_FORMAT, versions

CONFIG = "the config"
_WIDTH = 120


def measure_on_test(
    config: TrialConfig,
    trials: Sequence[TrialRecord],
    student_of: Callable[[TrialRecord], ServedStudent],
    keep: Callable[[TrialRecord], None],
    say: Callable[[str], None],
) -> None:
    """Tests every student that has been trained and was not tested yet, on the CPU and in float32, as it is served.

    Args:
        config: The config, for its data set and metrics.
        trials: The trainings.
        student_of: Loads the student of a training.
        keep: Called with every training whose student has been tested.
        say: Prints a line.

    Raises:
        UserError: The test images are missing or broken.
    """
    untested = [trial for trial in trials if trial.status == FINISHED and trial.test is None]
    if not untested:
        return
    images = data.load_test(config.dataset)
    say(f"testing {len(untested)} student{'s' * (len(untested) > 1)} on {len(images):,} test images")
    for trial in untested:
        served = student_of(trial)
        measured = evaluate(served.student, images, served.normalise, torch.device("cpu"), config.metrics)
        if math.isfinite(measured["loss"]):
            trial.test = {**measured, "images": len(images)}
        else:
            # Where outputs are not numbers, an accuracy is the share of the first class.
            trial.status = DIVERGED
            trial.reason = "the student's outputs on the test images are not finite numbers"
        keep(trial)


def first_student(trained: Sequence[TrialRecord]) -> TrialRecord | None:
    """Returns the config's training whose student is kept: that of the first seed that was trained to the end.

    It is never chosen by its test accuracy, which would then be biased.
    """
    return next((trial for trial in trained if trial.baseline is None and trial.status == FINISHED), None)


@dataclass(frozen=True)
class Line:
    """The config or a baseline, over the seeds.

    Attributes:
        name: The baseline's name; `CONFIG` for the config.
        trials: Its trainings, by seed.
    """

    name: str
    trials: tuple[TrialRecord, ...]

    @property
    def tested(self) -> list[TrialRecord]:
        """The trainings whose student was trained to the end and tested."""
        return [trial for trial in self.trials if trial.test is not None]

    @property
    def judge(self) -> Metric:
        """The metric that the config was chosen by."""
        return self.trials[0].metric

    @property
    def metrics(self) -> list[Metric]:
        """The measured metrics, the one that the config was chosen by first."""
        there = {*ALWAYS, *(name for trial in self.tested for name in trial.test or ())}
        known = [metric for metric in METRICS.values() if metric.name in there]
        return list(dict.fromkeys([self.judge, *known]))

    def values(self, metric: Metric) -> dict[int, float]:
        """Returns the values of the tested students on the test images, by seed."""
        return {trial.student_seed or 0: trial.test[metric.name] for trial in self.tested if trial.test}

    def estimate(self, metric: Metric) -> Estimate | None:
        """Returns the mean over the seeds; None if no student was trained to the end."""
        values = self.values(metric)
        return estimate(list(values.values()), self.resolution(metric)) if values else None

    def resolution(self, metric: Metric) -> float:
        """Returns the step that values are multiples of."""
        return metric.resolution(next((trial.test["images"] for trial in self.tested if trial.test), None))

    @property
    def lost(self) -> list[TrialRecord]:
        """The trainings that yielded no student."""
        return [trial for trial in self.trials if trial.test is None]


def lines(trials: Sequence[TrialRecord]) -> list[Line]:
    """Returns the config and then its baselines, each with its trainings."""
    names = dict.fromkeys(trial.baseline for trial in trials)
    return [
        Line(name or CONFIG, tuple(trial for trial in trials if trial.baseline == name))
        for name in sorted(names, key=lambda name: name is not None)
    ]


def ahead_of(found: Sequence[Line], line: Line, metric: Metric) -> Estimate | None:
    """Returns the paired difference between the config and a baseline; None if they have no seed in common.

    Args:
        found: The config, and every baseline that it is compared with: the intervals hold together for all of them.
        line: The baseline.
        metric: The metric that is compared.
    """
    family = Family(
        {one.name: values for one in found if (values := one.values(metric))},
        max(one.resolution(metric) for one in found),
    )
    if not {CONFIG, line.name} <= family.values.keys():
        return None
    return family.difference(CONFIG, line.name, 1, len(family.values) - 1)


def headline(line: Line) -> list[str]:
    """Returns two lines of the config's test results: the metric that it was chosen by, and the others."""
    images = next(trial.test["images"] for trial in line.tested if trial.test is not None)
    first, *others = (f"{metric.label} {_mean(line, metric)}" for metric in line.metrics)
    seeds = len(line.tested)
    more = f" (95 % interval, n = {seeds} seeds)" if seeds > 1 else ""
    return [f"test {first}{more} on {images:,} images", f"  {', '.join(others)}"]


def _mean(line: Line, metric: Metric) -> str:
    found = line.estimate(metric)
    assert found is not None  # a config without a student has no headline
    more = "" if math.isinf(found.half_width) else f" ± {metric.number(found.half_width)}"
    return metric.show(found.mean) + more


def tables(found: Sequence[Line]) -> list[Table]:
    """Returns a table for each metric, with a row for the config and for each baseline."""
    return [_table(found, metric) for metric in found[0].metrics]


def _table(found: Sequence[Line], metric: Metric) -> Table:
    caption = f"final training (test {metric.label} over the seeds; the differences hold together in 95 % of cases)"
    heads = ["trained", f"test {metric.label}", "95 % interval", "deviation", "n", "config minus baseline", "lost"]
    rows = [
        Row([line.name, *_cells(found, line, metric), _lost(line)], WINNER if line is found[0] else "")
        for line in found
    ]
    return Table(caption, heads, rows, {1, 2, 3, 4, 5})


def _cells(found: Sequence[Line], line: Line, metric: Metric) -> list[str]:
    """Returns the cells of a line: mean, interval, deviation, number of seeds, and difference to the config."""
    known = line.estimate(metric)
    cells = spread(known, metric) if known else ("-", "", "", "0")
    return [*cells, points(None if line is found[0] else ahead_of(found, line, metric), metric)]


def final_evidence(plan: FinalPlan, found: Sequence[Line], chosen: TrialRecord) -> list[str]:
    """Returns the evidence of a final training about its student and config, for the model card."""
    assert chosen.test is not None  # it was trained to the end, and tested
    first, *others = (f"{metric.label} **{metric.show(chosen.test[metric.name])}**" for metric in found[0].metrics)
    shown = [
        f"Test {first} of this student on {chosen.test['images']:,} images that were not used before; it did not "
        f"decide which student was kept. On the same images: {', '.join(others)}.",
    ]
    if len(found[0].tested) > 1:
        shown += [as_markdown(table) for table in tables(found)]
    if verdicts := sentences(plan, found):
        shown.append("\n".join(f"- {sentence}" for sentence in verdicts))
    return shown


class Seeding(Protocol):
    """The seeds of a plan."""

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        ...

    @property
    def new_streams(self) -> bool:
        """Returns whether every seed has its own stream and teachers."""
        ...


def sentences(plan: Seeding, found: Sequence[Line]) -> list[str]:
    """Returns verdicts on the differences to the baselines, and notes about seeds and lost trainings."""
    config, *baselines = found
    found_sentences = [
        verdict(CONFIG, line.name, ahead_of(found, line, config.judge), config.judge)
        for line in baselines
        if line.tested and config.tested
    ]
    if plan.seeds > 1:
        found_sentences.append(
            "each seed has its own stream, teachers and initial weights"
            if plan.new_streams
            else "the seeds differ only in the students' initial weights; --new-streams also varies the stream and the "
            "teachers"
        )
    for line in found:
        found_sentences += [
            f"{line.name}, seed {trial.student_seed}: {trial.status} ({trial.reason}); it is not part of the mean"
            for trial in line.lost
        ]
    return found_sentences


def _lost(line: Line) -> str:
    """Returns the numbers of trainings that yielded no student, by status."""
    counts = {status: sum(trial.status == status for trial in line.lost) for status in ("diverged", "failed")}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def as_text(plan: FinalPlan, found: Sequence[Line]) -> str:
    """Returns the tables and the verdicts as the content of a text file."""
    from ctkd_search.display.consoles import text_console

    console, text = text_console(_WIDTH)
    for table in tables(found):
        console.print(for_terminal(table))
    for sentence in sentences(plan, found):
        console.print(sentence, soft_wrap=True, highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def result(plan: FinalPlan, config: TrialConfig, found: Sequence[Line], images: int) -> dict[str, Any]:
    """Returns the result of a final training as plain values.

    Args:
        plan: The plan.
        config: The config, with its precision resolved.
        found: The config and its baselines.
        images: Number of training images.
    """
    tested = [trial.test["images"] for line in found for trial in line.trials if trial.test is not None]
    first = found[0]
    return {
        **_estimated(first),
        "test_images": tested[0] if tested else None,
        "train_images": images,
        "seeds": _by_seed(first),
        "new_streams": plan.new_streams,
        "baselines": {
            line.name: {
                **_estimated(line),
                "seeds": _by_seed(line),
                "config_minus_baseline": {
                    metric.name: _plain(ahead_of(found, line, metric)) for metric in first.metrics
                },
                **({"config": plan.files[line.name].as_dict()} if line.name in plan.files else {}),
            }
            for line in found[1:]
        },
        "config": config.as_dict(),
        "versions": versions(),
    }


def _estimated(line: Line) -> dict[str, Any]:
    """Returns mean, deviation, half of the interval, and number of seeds of each metric."""
    nothing = {"mean": None, "deviation": None, "half_width": None, "n": 0}
    found: dict[str, Any] = {}
    for metric in line.metrics:
        plain = _plain(line.estimate(metric)) or dict(nothing)
        found[f"test_{metric.name}"] = plain.pop("mean")
        found |= {f"test_{metric.name}_{key}": value for key, value in plain.items()}
    return found


def _by_seed(line: Line) -> list[dict[str, Any]]:
    return [
        {
            "seed": trial.student_seed,
            "stream_seed": trial.seed,
            "status": trial.status,
            "reason": trial.reason,
            **{f"test_{metric.name}": trial.test[metric.name] if trial.test else None for metric in line.metrics},
            "run_id": trial.run_id,
        }
        for trial in line.trials
    ]


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    """Returns an estimate for JSON; quantities that one value alone does not determine are null."""
    if found is None:
        return None
    return {key: value if math.isfinite(value) else None for key, value in dataclasses.asdict(found).items()}


def parent_metrics(found: Sequence[Line]) -> dict[str, float]:
    """Returns the metrics of the parent run; those that one seed alone does not determine are left out."""
    first, *baselines = found
    metrics: dict[str, float | None] = _estimated(first)
    for line in baselines:
        estimated = _estimated(line)
        metrics |= {f"{key}.{line.name}": value for key, value in estimated.items()}
        for metric in first.metrics:
            gap = _plain(ahead_of(found, line, metric)) or {}
            name = f"test_{metric.name}_minus_{line.name}"
            metrics |= {name: gap.get("mean"), f"{name}_half_width": gap.get("half_width")}
    return {name: value for name, value in metrics.items() if value is not None}


def flat(config: TrialConfig) -> dict[str, Any]:
    """Returns a config as MLflow parameters: dotted names, plain values."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        parts = (walk(f"{prefix}.{key}".lstrip("."), inner) for key, inner in value.items())
        return {name: inner for part in parts for name, inner in part.items() if inner is not None}

    return walk("", config.nested())


def keep_student(path: Path, served: ServedStudent, architecture: str, splits: data.Splits) -> None:
    """Writes a student, with everything that is needed to use it, to a file."""
    with atomic(path) as temporary:
        torch.save(
            {
                "format": STUDENT_FORMAT,
                "versions": versions(),
                "student": served.student.state_dict(),
                "architecture": architecture,
                "geometry": list(splits.geometry),
                "resize": splits.resize,
                "classes": list(splits.classes),
                "mean": list(splits.mean),
                "std": list(splits.std),
            },
            temporary,
        )


def keep_result(directory: Path, content: Mapping[str, Any], text: str) -> None:
    """Writes the result of a final training as JSON and as text."""
    write_text(directory / "result.json", json.dumps(content, indent=1) + "\n")
    write_text(directory / "table.txt", text)
