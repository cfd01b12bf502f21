"""Agreement of early rankings with the end, against Spearman's formula."""

import math

import pytest
from support.factories import a_trial

from ctkd_search.analysis.early_ranking import agreement
from ctkd_search.metrics import ACCURACY, LOSS
from ctkd_search.records.store import FINISHED, STOPPED
from ctkd_search.space.strategy import Ranking

ACCURACIES = Ranking(ACCURACY, 0.0)
LOSSES = Ranking(LOSS, 1.0)


def trials(*pairs, status=FINISHED, first=1, **more):
    """Trials with an accuracy after the first epoch and one at the end."""
    return [a_trial(first + number, *pair, status=status, **more) for number, pair in enumerate(pairs)]


def test_the_agreement_is_spearmans_correlation():
    ranks = [(0.1, 0.5), (0.2, 0.7), (0.3, 0.6), (0.4, 0.8)]
    found = agreement(trials(*ranks), 1, ACCURACIES)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with d = 0, 1, -1, 0
    assert found.correlation == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.trials == 4
    assert agreement(trials(*ranks), 2, ACCURACIES).correlation == pytest.approx(1)


def test_a_low_loss_agrees_with_a_high_accuracy():
    losses = {0.3: 3.0, 0.4: 2.0, 0.5: 1.0}
    records = [
        a_trial(n, end, end, measured={"averaged_validation_loss": loss})
        for n, (end, loss) in enumerate(losses.items())
    ]
    assert agreement(records, 1, LOSSES).correlation == pytest.approx(1)


def test_only_trials_that_finished_count_and_methods_count_apart():
    ranks = [(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)]
    others = trials((0.9, 0.1), (0.95, 0.05), first=10, status=STOPPED)
    assert agreement([*trials(*ranks), *others], 1, ACCURACIES).trials == 3
    kd = trials((0.9, 0.2), (0.8, 0.3), (0.7, 0.4), first=20, values={"method": "kd"})
    both = agreement([*trials(*ranks), *kd], 1, ACCURACIES)
    assert (both.correlation, both.trials) == (pytest.approx(0), 6)


@pytest.mark.parametrize("early", [(0.1, 0.2), (0.1, 0.1, 0.1), (0.1, 0.2, math.nan)])
def test_too_few_or_equal_trials_have_no_agreement(early):
    assert agreement(trials(*((value, 0.5 + number / 10) for number, value in enumerate(early))), 1, ACCURACIES) is None
    assert agreement([], 1, ACCURACIES) is None
