"""Simulated searches on tables of trainings that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import tables
from own_search import PAUSES, PREDICTED, OwnSearch, Settings, space_for
from prediction import Ends
from search_arms import Regrets
from signal_ranks import correlation, halved
from simulation import Decision, Trial, best_finished, best_last, simulate
from surrogate import Features, Forest, Surrogate, Training

EPOCHS = 18
SIGNALS = ["accuracy", "loss", "averaged_0.5_accuracy", "averaged_0.5_loss", "averaged_1_accuracy", "averaged_1_loss"]


def training(end: float, epochs: int = EPOCHS, diverges: bool = False) -> Training:
    """A training whose accuracies rise in a straight line to its end."""
    accuracy = end * np.arange(1, epochs + 1) / EPOCHS
    signals = {name: 1 - accuracy if name.endswith("loss") else accuracy for name in SIGNALS}
    return Training(signals, epochs, diverges, 0.0 if diverges else 100 * end)


class Known:
    """A surrogate whose trainings are a function of the learning rate.

    Args:
        rate: The best one.
    """

    best = 90.0
    epochs = EPOCHS

    def __init__(self, rate: float = 0.1) -> None:
        self._rate = rate

    def training(self, stored):
        """The end falls with the distance of the logarithm of the rate from that of the best."""
        return training(0.9 - 0.2 * abs(np.log10(stored["lr"] / self._rate)))


class Listed:
    """Hands out given trainings; pauses the first after an epoch, and asks for it again after the second has ended."""

    def __init__(self) -> None:
        self.asked: list = []

    def ask(self, number):
        """The first two are new, then the first goes on."""
        answer = {"lr": [0.01, 0.1][number]} if number < 2 else 0
        self.asked.append(answer)
        return answer

    def reported(self, trial):
        """Pauses the first trial after its first epoch."""
        return Decision.PAUSE if trial.number == 0 and trial.epochs == 1 else Decision.CONTINUE

    def ended(self, trial):
        """Nothing to note."""

    def chosen(self, trials):
        """The best of the last values."""
        return best_last(trials)


def test_a_paused_trial_goes_on_where_it_stopped_and_the_budget_is_spent_exactly():
    searcher = Listed()
    found = simulate(searcher, Known(), workers=1, budget=1 + EPOCHS + EPOCHS - 1)
    assert searcher.asked == [{"lr": 0.01}, {"lr": 0.1}, 0]
    assert (found.trials, found.finished) == (2, 2)
    # The first epoch has the config with 70 %; the second trial is ahead once 0.9 t / 18 > 0.7 / 18.
    assert found.changes == [(1, pytest.approx(20.0)), (2, pytest.approx(0.0))]


def test_workers_share_the_epochs():
    class Endless(Listed):
        def ask(self, number):
            self.asked.append(number)
            return {"lr": 0.1}

        def reported(self, trial):
            return Decision.CONTINUE

    searcher = Endless()
    assert simulate(searcher, Known(), workers=4, budget=7).trials == 4
    assert simulate(Endless(), Known(), workers=4, budget=4 * EPOCHS).finished == 4


def test_the_choice_prefers_trials_that_finished():
    short, long = Trial(0, {}, training(0.9), 17), Trial(1, {}, training(0.5), EPOCHS)
    assert best_last({0: short, 1: long}) is short
    assert best_finished({0: short, 1: long}) is long
    diverged = Trial(2, {}, training(0.9, 5, diverges=True), 5)
    assert best_last({2: diverged}) is None


def content(places, ends):
    """A table of trainings that rise in straight lines."""
    rows = [np.column_stack([training(end).signals[name] for name in SIGNALS] + [np.ones(EPOCHS)]) for end in ends]
    return {
        "signals": [*SIGNALS, "seconds"],
        "points": [[place, 0] for place in places],
        "rows": [row.tolist() for row in rows],
        "ends": [[end, end] for end in ends],
    }


def places(space, count):
    """Values of configs at random."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = []
    for _ in range(count):
        trial = study.ask()
        space.suggest(trial)
        found.append(dict(trial.params))
    return found


def test_the_surrogate_returns_what_was_recorded_at_a_recorded_config():
    space = space_for("digits", 0, Settings())
    drawn = places(space, 30)
    ends = 0.5 + 0.4 * np.random.default_rng(0).random(30)
    table = content(drawn, ends)
    table["rows"][7], table["ends"][7] = table["rows"][7][:5], []  # diverged in its fifth epoch
    surrogate = Surrogate(space, table)
    for number in (0, 11, 29):
        found = surrogate.training(drawn[number])
        assert found.end == pytest.approx(100 * ends[number])
        np.testing.assert_allclose(found.signals["averaged_1_loss"], 1 - ends[number] * np.arange(1, 19) / 18)
    diverged = surrogate.training(drawn[7])
    assert (diverged.diverges, diverged.epochs, diverged.end) == (True, 5, 0.0)


def test_the_forest_is_walked_as_scikit_learn_walks_it():
    from sklearn.ensemble import ExtraTreesRegressor

    random = np.random.default_rng(0)
    known, values, asked = random.random((60, 4)), random.random((60, 3)), random.random((20, 4))
    theirs = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0).fit(known, values).predict(asked)
    np.testing.assert_allclose([Forest(known, values)(place) for place in asked], theirs, rtol=1e-6)


def test_ends_are_predicted_from_trials_that_came_further():
    space = space_for("digits", 0, Settings())
    drawn = places(space, 41)
    ends = 0.4 + 0.5 * np.random.default_rng(1).random(41)
    trials = [Trial(number, drawn[number], training(ends[number]), EPOCHS) for number in range(40)]
    stopped = Trial(40, drawn[40], training(0.85), 2)
    predicted = Ends([2, 6], EPOCHS, Features(space))
    assert predicted.of(stopped) is None
    predicted.fit([*trials, stopped])
    assert predicted.of(stopped) == pytest.approx(0.85, abs=0.02)
    # What a trial shows later is not used where an earlier rung is asked for.
    assert predicted.of(trials[3], 2) == pytest.approx(ends[3], abs=0.02)


@pytest.mark.parametrize(("sampler", "told", "share"), [("random", "pruned", 0.45), ("tpe", PREDICTED, 0.65)])
def test_the_own_search_promotes_a_part_at_each_rung_and_comes_near_the_best(sampler, told, share):
    settings = Settings(sampler=sampler, stopping=PAUSES, signal="averaged_1_loss", grace=2, told=told)
    searcher = OwnSearch("digits", 1, settings)
    # The default settings, which are tried first, are 6.9 points below the best.
    found = simulate(searcher, Known(0.1 * 10**0.345), workers=4, budget=30 * EPOCHS)
    assert found.changes[0][1] == pytest.approx(6.9)
    assert found.changes[-1][1] < 2.0
    epochs = [trial.epochs for trial in searcher._trials.values()]
    for rung in (2, 6):
        reached, further = sum(count >= rung for count in epochs), sum(count > rung for count in epochs)
        assert 0.25 * reached < further < share * reached, rung


def test_halving_keeps_the_best_where_the_signal_is_the_end():
    ends = np.random.default_rng(0).random(50)
    values = np.tile(ends[:, None], (1, EPOCHS))
    drawn = np.stack([np.random.default_rng(seed).permutation(50)[:27] for seed in range(20)])
    left = halved(values, drawn, (2, 6))
    assert (left.sum(axis=1) == 3).all()
    assert all(sorted(ends[row])[-3:] == sorted(ends[row][kept]) for row, kept in zip(drawn, left, strict=True))
    # By a signal that is the reverse, the worst are kept.
    assert ends[drawn][halved(-values, drawn, (2, 6))].max() < np.median(ends)


def test_rank_correlations_are_spearmans():
    from scipy.stats import spearmanr

    one, two = np.random.default_rng(0).integers(5, size=(2, 30)).astype(float)
    assert correlation(one[None], two[None])[0] == pytest.approx(spearmanr(one, two).statistic)
    assert correlation(np.ones((1, 30)), two[None])[0] == 0.0


def test_epochs_until_a_regret_is_reached():
    regrets = Regrets([[10, [[1, 5.0], [4, 1.0]], 3, 1, 0.1], [10, [[1, 5.0], [8, 0.0]], 3, 1, 0.1]], 10)
    np.testing.assert_array_equal(regrets.values[1], [5, 5, 5, 5, 5, 5, 5, 0, 0, 0])
    assert regrets.reached(3.0) == 4  # from there on the mean is (1 + 5) / 2
    assert regrets.reached(1.0) == 8
    assert regrets.reached(0.1) is None
    assert regrets.median_reached(1.0) == 6  # after 4 and 8 epochs
    assert regrets.median_reached(0.5) is None


def test_space_of_photographs_is_read_without_them():
    space = space_for("cifar", 0, Settings())
    assert space.budget.epochs == EPOCHS
    assert space.pairs() == ["resnet20/resnet8"]


def test_first_trainings_of_a_table_stay_the_same_while_others_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "DIRECTORY", tmp_path)
    content = {"points": [[{"lr": n}, 0] for n in range(5)], "rows": [[[n]] for n in range(3)] + [None, [[4]]]}
    tables.save("x", {**content, "ends": [[0.5]] * 3 + [None, [0.4]]})
    assert tables.recorded("x") == 3
    before = tables.load("x", 3)
    tables.save("x", {**content, "rows": [[[n]] for n in range(5)], "ends": [[0.5]] * 5})
    assert tables.recorded("x") == 5
    assert tables.load("x", 3) == before
    assert len(tables.load("x")["rows"]) == 5
