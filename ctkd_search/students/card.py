"""The model card of a student: its description, evidence and limits, as a text made from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctkd_search.analysis.standing import Confirmed, confirmed, gap_to, verdicts
from ctkd_search.display.comparisons import points
from ctkd_search.display.tables import Row, Table, as_markdown
from ctkd_search.metrics import AT_END, ECE, METRICS
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord, ranked
from ctkd_search.students.served import Metadata
from ctkd_search.text import digits

CONFIG_HEADING = "## Config"
# Characters of a description that MLflow's registry keeps on every database.
_DESCRIPTION_LIMIT = 5000
_CLASSES_SHOWN = 20
UNCALIBRATED = "Whether the probabilities are calibrated was not measured."


@dataclass(frozen=True)
class Card:
    """The content of a model card.

    Attributes:
        name: The name that the student is registered under.
        origin: Its origin, a sentence.
        metadata: Description of the student.
        dataset: Name of the data set.
        images: Number of images of each kind, as in ``{"training": 1222, "validation": 216}``.
        fingerprint: Hash of the training images.
        evidence: Measurements of it, sentences or tables in Markdown.
        limits: Limits of the evidence, sentences.
        costs: Its ``params``, ``multiply_adds`` and ``latency_ms``.
        machine: Machine that the latency was measured on.
        config: The config that made it, as YAML.
    """

    name: str
    origin: str
    metadata: Metadata
    dataset: str
    images: Mapping[str, int]
    fingerprint: str
    evidence: Sequence[str]
    limits: Sequence[str]
    costs: Mapping[str, float]
    machine: str
    config: str


def card_text(card: Card) -> str:
    """Returns a model card in Markdown; its config comes last."""
    metadata = card.metadata
    counts = ", ".join(f"{count:,} {kind}" for kind, count in card.images.items())
    parts = [
        f"# {card.name}",
        f"An image classifier, a `{metadata.architecture}` for {len(metadata.classes)} classes, found by ctkd-search, "
        f"a hyperparameter search for Collaborative Teaching Knowledge Distillation (arXiv 1907.09643). {card.origin}",
        interface(metadata),
        "## Data",
        _list([f"Data set `{card.dataset}`: {counts} images.", f"Fingerprint: `{card.fingerprint}`."]),
        "## What was shown",
        *card.evidence,
        "## What it costs",
        _list(
            [
                f"Parameters: {digits(card.costs['params'])}.",
                f"Multiply-adds for one image: {digits(card.costs['multiply_adds'])}.",
                f"Latency for one image: {card.costs['latency_ms']:.3g} ms, the median of 50 runs ({card.machine}).",
            ]
        ),
        "## How to use it",
        usage(f"models:/{card.name}@champion", "torch"),
        "A version stays what it is as "
        f"`models:/{card.name}/VERSION`; `@champion` is the best by the evidence that versions share, or the one that "
        "was made it.",
        "## What was not shown",
        _list(
            [
                *card.limits,
                "Images unlike those that it was trained on get probabilities too: there is no class for images of "
                "none of the classes.",
            ]
        ),
        CONFIG_HEADING,
        f"```yaml\n{card.config.rstrip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def interface(metadata: Metadata) -> str:
    """Returns a list, in Markdown, of what goes into a student and what comes out."""
    size, channels = metadata.image_size, metadata.channels
    return _list(
        [
            f"Input: raw images, uint8 of shape (batch, {size}, {size}, {channels}), "
            f"{'grey' if channels == 1 else 'red, green, blue'}; they are normalised inside the model.",
            f"A picture becomes such an image upright, its shorter side resized to {metadata.resize or size} "
            f"pixels (bicubic), and its centred square of {size} pixels cut out.",
            f"Output: one row for each image, one column of probability for each class: {_classes(metadata)}.",
            f"Versions: {', '.join(f'{package} {number}' for package, number in metadata.versions.items())}.",
        ]
    )


def description(card: str, rest: str) -> str:
    """Returns the part of a card's text for MLflow's registry: all but the config, cut to the registry's limit.

    Args:
        card: The text of the card.
        rest: A sentence on where the rest is.
    """
    text = card.partition(CONFIG_HEADING)[0].rstrip()
    room = _DESCRIPTION_LIMIT - len(rest) - 2
    if len(text) > room:
        text = text[:room].rpartition("\n")[0].rstrip()
    return f"{text}\n\n{rest}"


def search_evidence(trials: Sequence[TrialRecord], chosen: TrialRecord, validation_images: int) -> list[str]:
    """Returns the evidence of a search for a trial's student.

    Args:
        trials: The search's trials.
        chosen: The trial.
        validation_images: Number of images that the trials were compared on.

    Returns:
        Sentences, and a table of the baselines, in Markdown.
    """
    explored, epochs = sum(trial.explores for trial in trials), len(chosen.epochs)
    found = [
        f"Validation {chosen.metric.label} **{chosen.reached}** on {validation_images:,} images, after {epochs} "
        f"epoch{'s' * (epochs != 1)}. It was chosen from {explored} trials by such numbers, so that this one is partly "
        "luck."
    ]
    again = next((config for config in confirmed(trials) if config.trial is chosen), None)
    if again:
        found[0] += (
            f"\n\nIts config, trained again: mean **{chosen.metric.show(again.estimate.mean)}**{_spread(again)}. "
            "The weights here are those of the trial itself, not of a repetition."
        )
    beside = ", ".join(
        f"{metric.label} {metric.show(value)}"
        for metric in (*METRICS.values(), *AT_END.values())
        if metric is not chosen.metric and (value := chosen.last(metric)) is not None
    )
    if beside:
        found.append(f"On the same images: {beside}.")
    lines = [sentence[0].upper() + sentence[1:] + "." for sentence in verdicts(trials)]
    table = _baselines(trials, chosen)
    return [*found, *([_list(lines)] if lines else []), *([table] if table else [])]


def search_limits(search: SearchRecord, trials: Sequence[TrialRecord], chosen: TrialRecord) -> list[str]:
    """Returns the limits of a search's evidence for a trial's student."""
    limits = [
        "The test images were not read. Every number here is one of validation images, on which the search compared "
        "its trials; a final training (`ctkd-search train`) measures on the test images.",
        f"All is from one search ({search.name}), with one split of one data set, and trainings of up to "
        f"{max((len(trial.epochs) for trial in trials), default=0)} epochs.",
    ]
    again = next((config for config in confirmed(trials) if config.trial is chosen), None)
    if again is None:
        limits.append("It was trained with one seed: how much another seed would change was not measured.")
    elif again.estimate.n == 1:
        limits.append("From one fresh seed there is no interval: how much another would change was not measured.")
    elif again.estimate.n < 5:
        limits.append(f"An interval from {again.estimate.n} seeds is wide, and rests on their being normally spread.")
    if chosen.last(ECE) is None:
        limits.append(UNCALIBRATED)
    if not any(trial.baseline and trial.status == FINISHED for trial in trials):
        limits.append("It was compared with no baseline.")
    return limits


def _baselines(trials: Sequence[TrialRecord], chosen: TrialRecord) -> str:
    finished = [t for t in trials if t.is_baseline_run and t.status == FINISHED]
    if not finished:
        return ""
    judge = chosen.metric
    again = {config.trial.number: config for config in confirmed(trials)}
    rows = []
    for trial in ranked(finished):
        config = again.get(trial.number)
        mean = f"{judge.show(config.estimate.mean)}{_spread(config)}" if config else ""
        gap = points(gap_to(trials, chosen, trial), judge)
        rows.append(Row([str(trial.baseline), trial.values["pair"], trial.reached, mean, gap]))
    heads = ["baseline, with the same budget", "pair", f"validation {judge.label}"]
    table = Table("baselines", [*heads, "mean of fresh seeds", "against this student"], rows, {2, 3, 4})
    return (
        f"{as_markdown(table)}\n\nDifferences are in {'percentage points' if judge.unit == '%' else judge.unit}, "
        f"{'below' if judge.goal == 'max' else 'above'} 0 where the baseline is worse."
    )


def _spread(config: Confirmed) -> str:
    found, metric = config.estimate, config.trial.metric
    seeds = f"n = {found.n} fresh seed{'s' * (found.n > 1)}"
    if math.isinf(found.half_width):
        return f" ({seeds})"
    return f" (95 % interval ± {metric.number(found.half_width)} {metric.difference_unit}, {seeds})"


def _classes(metadata: Metadata) -> str:
    shown = ", ".join(f"`{name}`" for name in metadata.classes[:_CLASSES_SHOWN])
    more = len(metadata.classes) - _CLASSES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def usage(uri: str, runtime: str) -> str:
    """Returns the ways to use a registered student, in Markdown.

    Args:
        uri: The student, as a ``models:`` URI.
        runtime: The library that runs it.
    """
    return f"""\
With {runtime}, pandas and mlflow, without ctkd-search, where `MLFLOW_TRACKING_URI` names the store:

```python
import mlflow

probabilities = mlflow.pyfunc.load_model("{uri}").predict(images)
probabilities.idxmax(axis=1)  # the class of each image
```

As a server, which takes `{{"instances": [image, ...]}}` at `/invocations`:

```sh
mlflow models serve -m {uri} --env-manager local --port 5001
```

With image files: `ctkd-search predict {uri} IMAGE...`."""


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
