"""The model card: every number it gives, and what it owns not to know."""

from __future__ import annotations

import dataclasses
import re

import pytest
from support.factories import a_search_record, a_trial, repetitions
from support.kept_students import SMALL, a_student

from ctkd_search.geometry import Geometry
from ctkd_search.records.store import BASELINE, DIVERGED
from ctkd_search.students.card import Card, card_text, description, search_evidence, search_limits

CONFIG = "name: digits\npair: wrn-16-2/resnet8\nepochs: 6\n"
REST = "The rest is in `card.md`."
SEARCH = a_search_record(name="first")


def a_card(geometry=SMALL, **changes):
    """A card of a student from a search."""
    _, metadata = a_student("resnet8", geometry)
    values = {
        "name": "ctkd-digits",
        "origin": "It is the student of trial 3.",
        "metadata": dataclasses.replace(metadata, versions={"torch": "2.9.1"}),
        "dataset": "digits",
        "images": {"training": 1222, "validation": 216},
        "fingerprint": "abc123",
        "evidence": ["Something was measured."],
        "limits": ["Something was not."],
        "costs": {"params": 77754, "multiply_adds": 763520, "latency_ms": 0.22712},
        "machine": "x86_64, 2 CPU threads",
        "config": CONFIG,
    }
    return Card(**{**values, **changes})


def section(text, heading):
    """What stands under a heading."""
    return text.split(f"\n## {heading}\n\n")[1].split("\n## ")[0].strip()


def baseline(number, name, accuracy, **more):
    """A baseline's trial."""
    return a_trial(number, accuracy, pair="a/b", kind=BASELINE, baseline=name, **more)


def test_a_card_says_what_the_student_is_and_how_it_is_used():
    text = card_text(a_card())
    assert text.startswith("# ctkd-digits\n\nAn image classifier, a `resnet8` for 10 classes, ")
    assert "It is the student of trial 3." in text
    assert "uint8 of shape (batch, 8, 8, 1), grey;" in text
    assert "one column of probability for each class: `class 0`, `class 1`, " in text
    assert "Versions: torch 2.9.1." in text
    assert section(text, "Data") == (
        "- Data set `digits`: 1,222 training, 216 validation images.\n- Fingerprint: `abc123`."
    )
    assert section(text, "What was shown") == "Something was measured."
    assert section(text, "What it costs") == (
        "- Parameters: 77,754.\n- Multiply-adds for one image: 763,520.\n"
        "- Latency for one image: 0.227 ms, the median of 50 runs (x86_64, 2 CPU threads)."
    )
    assert 'load_model("models:/ctkd-digits@champion").predict(images)' in section(text, "How to use it")
    assert "mlflow models serve -m models:/ctkd-digits@champion" in section(text, "How to use it")
    assert section(text, "What was not shown").startswith("- Something was not.\n- Images unlike")
    assert section(text, "Config") == f"```yaml\n{CONFIG}```"


def test_a_final_training_says_its_own():
    evidence = ["Test accuracy **97.21 %** (95 % interval 94.9 to 98.7 %) on 359 images, read once."]
    text = card_text(a_card(evidence=evidence, images={"training": 1438, "test": 359}, limits=[]))
    assert section(text, "What was shown") == evidence[0]
    assert "1,438 training, 359 test images" in text
    assert "validation" not in text
    assert section(text, "What was not shown").startswith("- Images unlike")


def test_colour_is_called_so():
    assert "uint8 of shape (batch, 17, 17, 3), red, green, blue;" in card_text(a_card(Geometry(3, 3, 17)))


def test_the_registry_has_room_for_its_description():
    small = description(card_text(a_card()), REST)
    assert small.startswith("# ctkd-digits\n")
    assert "Something was not." in small
    assert CONFIG not in small
    assert "`card.md`" in small.splitlines()[-1]
    long = card_text(a_card(Geometry(1000, 3, 32), evidence=[f"- Sentence {n} of many." for n in range(2000)]))
    assert "and 980 more" in long
    cut = description(long, REST)
    assert 4500 < len(cut) <= 5000
    assert "`card.md`" in cut.splitlines()[-1]
    assert re.fullmatch(r"- Sentence \d+ of many\.", cut.splitlines()[-3]), "it is cut between lines"


def test_a_search_shows_its_accuracy_and_that_it_was_chosen_for_it():
    trials = [a_trial(1, 0.5), a_trial(2, 0.75), a_trial(3, 0.9, status=DIVERGED)]
    (found,) = search_evidence(trials, trials[1], 216)
    assert found.startswith("Validation accuracy **75.00 %** on 216 images, after 1 epoch. It was chosen from 3 trials")
    limits = "\n".join(search_limits(SEARCH, trials, trials[1]))
    assert "The test images were not read." in limits
    assert "one search (first)" in limits
    assert "trained with one seed" in limits
    assert "compared with no baseline" in limits


def test_a_search_shows_what_its_confirmation_found():
    trials = [a_trial(1, 0.9), *repetitions(1, [0.5, 0.6, 0.7]), baseline(2, "kd", 0.8)]
    trials += repetitions(2, [0.4, 0.501, 0.6], first=200, baseline="kd")
    first, verdict, table = search_evidence(trials, trials[0], 100)
    # The 97.5 % quantile of Student's t with two degrees of freedom is 4.30265; the deviation is 0.1.
    assert "mean **60.00 %** (95 % interval ± 24.84 points, n = 3 fresh seeds)" in first
    assert verdict.startswith("- Trial 1 is better than the baseline kd (trial 2) (+9.97 points, ")
    assert "| kd | a/b | 80.00 % | 50.03 % (95 % interval ± 24.84 points, n = 3 fresh seeds) | -9.97 ± 0.14 |" in table
    limits = "\n".join(search_limits(SEARCH, trials, trials[0]))
    assert "An interval from 3 seeds is wide" in limits
    assert "one seed" not in limits
    assert "no baseline" not in limits


def test_one_fresh_seed_gives_no_interval():
    trials = [a_trial(1, 0.9), *repetitions(1, [0.5])]
    assert "mean **50.00 %** (n = 1 fresh seed)." in search_evidence(trials, trials[0], 100)[0]
    assert "From one fresh seed" in "\n".join(search_limits(SEARCH, trials, trials[0]))


@pytest.mark.parametrize("status", ["failed", "running"])
def test_a_baseline_that_did_not_finish_is_not_compared_with(status):
    trials = [a_trial(1, 0.9), baseline(2, "kd", 0.95, status=status)]
    assert len(search_evidence(trials, trials[0], 100)) == 1
    assert "compared with no baseline" in "\n".join(search_limits(SEARCH, trials, trials[0]))
