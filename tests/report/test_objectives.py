"""Trials ranked by a metric that is minimised: the best one in every place that names it."""

import io
import math

import pytest
from rich.console import Console
from support.factories import a_search_record, a_space, a_trial

from ctkd_search.analysis import final_lines
from ctkd_search.analysis.pareto import front, objective_values
from ctkd_search.analysis.standing import (
    best_so_far,
    confirmed,
    estimate,
    gap_to,
    verdict,
    verdicts,
    winner,
)
from ctkd_search.display import comparisons
from ctkd_search.display.comparisons import points, spread
from ctkd_search.display.leaderboard import print_leaderboard
from ctkd_search.display.leaderboard_file import leaderboard_csv, summary
from ctkd_search.final import results as final
from ctkd_search.metrics import ACCURACY, ALWAYS, ECE, LOSS, METRICS, OBJECTIVES, ON_REQUEST, TOP5, measured
from ctkd_search.records.store import BASELINE, STOPPED, best, ranked
from ctkd_search.report import facts, series
from ctkd_search.students import card
from ctkd_search.tracking.view import view_tag

PAIR = "wrn-10-1/resnet8"
SEARCH = {"lr": {"float": [0.01, 0.1]}}


def trial(number, loss, accuracy=0.5, objective=LOSS.key, **more):
    """A trial with these losses, one for each epoch or a single one, and the same accuracy in each."""
    losses = loss if isinstance(loss, list) else [loss]

    def measured(epoch):
        return {"at": 100 * number + epoch, "seconds": 0.05, LOSS.key: losses[epoch - 1]}

    known = {"pair": PAIR, "values": {"lr": 0.01 * number}, "stored": {"lr": 0.01}}
    return a_trial(number, *[accuracy] * len(losses), measured=measured, objective=objective, **known, **more)


def five_trials():
    """Four trials, of which the second has the lowest loss and the fourth the highest accuracy, and a baseline."""
    return [
        trial(1, 0.4),
        trial(2, [0.9, 0.2], 0.6),
        trial(3, 0.1, status=STOPPED),
        trial(4, 0.3, 0.9),
        trial(5, 0.25, kind=BASELINE, baseline="kd"),
    ]


def again(trials, number, losses):
    kinds = {"kind": BASELINE, "baseline": "kd"} if number == 5 else {}
    first = 100 * number
    return [trial(first + seed, loss, seed=seed, repeats=number, **kinds) for seed, loss in enumerate(losses, start=1)]


def test_metrics_know_which_way_is_better_and_how_they_are_written():
    assert {metric.name: metric.sign for metric in METRICS.values()} == {
        "accuracy": 1,
        "loss": -1,
        "top5": 1,
        "balanced_accuracy": 1,
        "ece": -1,
    }
    assert {*ALWAYS, *ON_REQUEST} == set(METRICS)
    assert [ACCURACY.show(0.9722), LOSS.show(0.12345), ECE.show(0.0231)] == ["97.22 %", "0.1235 nats", "2.31 %"]
    assert [ACCURACY.show(None), LOSS.show(math.nan)] == ["-", "-"]
    assert points(estimate([0.012, 0.010]), LOSS) == "+0.0110 ± 0.0127"
    assert points(estimate([0.012])) == "+1.20"
    assert spread(estimate([0.5, 0.7]), LOSS) == ("0.6000 nats", "± 1.2706", "0.1414", "2")
    assert measured(["ece", "top5"], LOSS.key) == [LOSS, ACCURACY, TOP5, ECE]
    assert measured([], ACCURACY.key) == [ACCURACY]


def test_the_lowest_loss_leads():
    trials = five_trials()
    assert [one.number for one in ranked(trials)] == [3, 2, 5, 4, 1]
    assert best(trials).number == winner(trials).number == 2
    assert (trials[1].value, trials[1].score, trials[1].reached) == (0.2, -0.2, "0.2000 nats")
    assert a_trial(9).score == -math.inf
    assert best([trial(1, 0.4, objective=ACCURACY.key), trial(2, 0.5, 0.6, objective=ACCURACY.key)]).number == 2


def test_the_best_so_far_falls():
    trials = five_trials()
    assert [(one.trials, one.value) for one in best_so_far(trials)] == [
        (1, 0.4),
        (2, 0.2),
        (3, 0.2),
    ]
    assert [(one.value, one.best) for one in series.finishes(trials[:4])] == [(0.4, 0.4), (0.2, 0.2), (0.3, 0.2)]


def test_the_lowest_mean_of_fresh_seeds_wins_and_is_better_not_worse():
    trials = five_trials()
    trials += again(trials, 2, [0.5, 0.52, 0.51]) + again(trials, 4, [0.2, 0.21, 0.22]) + again(trials, 5, [0.4] * 3)
    assert [config.trial.number for config in confirmed(trials)] == [4, 5, 2]
    assert winner(trials).number == 4
    second, baseline = verdicts(trials)
    assert second.startswith("trial 4 is better than trial 2 (loss -0.3000 nats, 95 % interval ±")
    assert baseline.startswith("trial 4 is better than the baseline kd (trial 5) (loss -0.1900 nats")
    assert gap_to(trials, trials[3], trials[4]).mean == pytest.approx(0.19)
    assert "is worse than" in verdict("a", "b", estimate([0.2, 0.21]), LOSS)
    assert "is better than" in verdict("a", "b", estimate([0.2, 0.21]), ACCURACY)


def test_a_front_of_two_metrics():
    trials = five_trials()
    assert objective_values(trials[3], [LOSS.key, ACCURACY.key], {}) == [0.3, 0.9]
    found = front([trials[0], trials[1], trials[3]], [LOSS.key, ACCURACY.key], {})
    assert [one.number for one in found] == [2, 4]


def test_tables_and_summaries_are_of_the_loss():
    space, trials = a_space(search=SEARCH, objectives=[LOSS.key], baselines=["kd"], metrics=["ece"]), five_trials()
    text = io.StringIO()
    record = a_search_record()
    print_leaderboard(space, record, trials, 9, Console(file=text, width=160))
    rows = [line.split() for line in text.getvalue().splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == ["2", "3", "4", "1", "5"]
    assert rows[0][:5] == ["2", "0.2000", "nats", "60.00", "%"]
    assert "+0.0500" in rows[-1]
    assert "validation loss" in text.getvalue()
    told = summary(space, trials, trials[1])
    assert "loss 0.2000 nats on the validation images" in told
    assert "| kd | 0.2500 nats | +0.0500 nats |" in told
    head, first, *_ = leaderboard_csv(space, trials, trials[1]).splitlines()
    assert head.split(",")[6:9] == ["validation_accuracy", "validation_loss", "validation_ece"]
    assert first.split(",")[6:9] == ["0.5", "0.1", ""]


def test_the_report_is_of_the_loss():
    space, trials = a_space(search=SEARCH, objectives=[LOSS.key], baselines=["kd"]), five_trials()
    record = a_search_record()
    summary = facts.summary_of(space, record, trials)
    assert summary.winner.number == 2
    assert "reaches a validation loss of 0.2000 nats in trial 2" in facts.headline(summary)
    numbers = {one.title: one for one in facts.key_numbers(summary, 30)}
    assert numbers["validation loss"].number == "0.2000 nats"
    assert "a little low" in numbers["validation loss"].note
    assert numbers["against the best baseline"].number == "-0.0500"
    assert numbers["validation accuracy"].number == "60.00 %"
    assert [row.cells[0] for row in comparisons.trials_table(space, summary.explored, summary.winner, 20).rows] == [
        "2",
        "3",
        "4",
        "1",
    ]
    assert comparisons.baselines_table(trials, summary.winner, LOSS).rows[0].cells[4:6] == ["0.2500 nats", "+0.0500"]


def test_the_view_in_mlflow_is_sorted_the_right_way():
    for objective, ascending in ((LOSS.key, "true"), (ACCURACY.key, "false")):
        _, value = view_tag(a_space(search=SEARCH, objectives=[objective], metrics=["top5"]), "s", "run")
        assert f'"orderByKey": "metrics.`{objective}`", "orderByAsc": {ascending}' in value
        assert "metrics.`validation_top5`" in value


def test_the_card_says_what_the_student_was_chosen_for():
    trials = five_trials()
    shown = "\n".join(card.search_evidence(trials, trials[1], 30))
    assert "Validation loss **0.2000 nats** on 30 images" in shown
    assert "On the same images: accuracy 60.00 %." in shown
    assert "| kd | wrn-10-1/resnet8 | 0.2500 nats |  | +0.0500 |" in shown
    assert "above 0 where the baseline is worse" in shown
    record = a_search_record()
    assert card.UNCALIBRATED in card.search_limits(record, trials, trials[1])
    trials[1].epochs[-1][ECE.key] = 0.1
    assert card.UNCALIBRATED not in card.search_limits(record, trials, trials[1])


def test_a_space_measures_what_it_judges_by():
    assert a_space(search=SEARCH).strategy.metrics == ()
    assert a_space(search=SEARCH, metrics=["ece", "top5"]).strategy.metrics == ("top5", "ece")
    strategy = a_space(search=SEARCH, objectives=[ECE.key, LOSS.key], metrics=["top5"]).strategy
    assert strategy.metrics == ("top5", "ece")
    assert (strategy.judge, strategy.directions) == (ECE, ["minimize", "minimize"])
    config = a_space(search=SEARCH, objectives=[ECE.key], metrics=["top5"]).pair_configs()[0]
    assert (config.metrics, config.objective) == (("top5", "ece"), ECE.key)
    assert set(OBJECTIVES) == {f"validation_{name}" for name in METRICS}


def test_a_final_training_tells_by_what_the_config_was_chosen_for():
    def line(name, losses):
        made = [trial(seed, 1.0, student_seed=seed) for seed in range(len(losses))]
        for one, loss in zip(made, losses, strict=True):
            one.baseline = None if name == final_lines.CONFIG else name
            one.test = {"accuracy": 0.5 + loss, "loss": loss, "ece": loss / 10, "images": 100}
        return final_lines.Line(name, tuple(made))

    config, kd = line(final_lines.CONFIG, [0.2, 0.21, 0.22]), line("kd", [0.4, 0.42, 0.43])
    assert config.metrics == [LOSS, ACCURACY, ECE]
    first, rest = final_lines.headline(config)
    assert first == "test loss 0.2100 nats ± 0.0248 (95 % interval, n = 3 seeds) on 100 images"
    assert rest == "  accuracy 71.00 % ± 2.48, calibration error 2.10 % ± 1.76"
    metrics = final.parent_metrics([config, kd])
    assert metrics["test_loss_minus_kd"] == pytest.approx(-0.62 / 3)
    assert metrics["test_ece"] == pytest.approx(0.021)
    plan = final.FinalPlan(
        "x", a_space(search=SEARCH, objectives=[LOSS.key], metrics=["ece"]).pair_configs()[0], 3, baselines=("kd",)
    )
    assert final_lines.sentences(plan, [config, kd])[0].startswith("the config is better than kd (loss -0.2067 nats")
    text = final.as_text(plan, [config, kd])
    assert [text.count(f"final training (test {metric.label} over") for metric in config.metrics] == [1, 1, 1]
