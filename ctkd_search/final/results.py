"""Results of a final training. The only code that reads the test split."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctkd_search import data
from ctkd_search.analysis.final_lines import Line, ahead_of, sentences
from ctkd_search.analysis.intervals import Estimate
from ctkd_search.config import TrialConfig
from ctkd_search.display.final_tables import tables
from ctkd_search.display.tables import as_markdown, for_terminal
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.files import write_text
from ctkd_search.final.plan import FinalPlan
from ctkd_search.records.states import write_state
from ctkd_search.records.store import DIVERGED, FINISHED, TrialRecord
from ctkd_search.students.served import ServedStudent
from ctkd_search.versions import STUDENT_FORMAT, versions

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
    classes = data.geometry(config.dataset).classes
    absent = classes - len(np.unique(images.labels))
    lacking = f", which lack {absent} of the {classes} classes" if absent else ""
    say(f"testing {len(untested)} student{'s' * (len(untested) > 1)} on {len(images):,} test images{lacking}")
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
    write_state(
        path,
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
    )


def keep_result(directory: Path, content: Mapping[str, Any], text: str) -> None:
    """Writes the result of a final training as JSON and as text."""
    write_text(directory / "result.json", json.dumps(content, indent=1) + "\n")
    write_text(directory / "table.txt", text)
