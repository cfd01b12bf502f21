"""Pictures leave out what is so much worse that the others could not be told apart beside it, and say so."""

import pytest
from support.factories import a_space, a_trial

from ctkd_search.analysis.standing import Confirmed
from ctkd_search.report import figures
from ctkd_search.report.curves import best_over_time
from ctkd_search.report.optuna_plots import comparable, parallel_coordinates, slices
from ctkd_search.report.outliers import far_below
from ctkd_search.report.series import Finish

CLOSE = (0.97, 0.975, 0.976, 0.98, 0.983, 0.985)


@pytest.mark.parametrize(
    ("values", "outside"),
    [
        ((*CLOSE, 0.1), {6}),
        ((0.2, *CLOSE, 0.1), {0, 7}),
        (CLOSE, set()),
        ((*CLOSE, 0.95), set()),  # far from the others, which are told apart even so
        ((0.98, 0.97, 0.975, 0.1), set()),  # too few to say
        ((0.2, 0.22, 0.19, 0.21, 0.2, 0.97), set()),  # so much better is what people look for
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.1), {5}),
        ((0.9,) * 6, set()),
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.89), set()),  # near, though the others are equal
        ((), set()),
    ],
)
def test_what_is_far_worse_than_the_others_is_outside(values, outside):
    assert far_below([[value] for value in values], 1) == outside
    assert far_below([[1 - value] for value in values], -1) == outside


def test_rows_count_by_their_means_and_are_as_wide_as_their_values():
    rows = [[value - 0.1, value + 0.1] for value in CLOSE]
    assert far_below([*rows, [0.1, 0.1]], 1) == {6}
    assert far_below([*rows, [0.6, 0.6]], 1) == set()


@pytest.mark.parametrize("means", [CLOSE, (*CLOSE, 0.1)])
def test_the_captions_of_confirmed_means_tell_of_arrows_where_there_are_any(means):
    given = [
        Confirmed(a_trial(number, mean), {seed: mean + 0.001 * seed for seed in (1, 2)})
        for number, mean in enumerate(means, start=1)
    ]
    for picture in (
        figures.confirmation(given, given[5].trial),
        figures.methods([(f"method{one.trial.number}", one) for one in given], given[5].trial),
    ):
        assert picture.png.startswith(b"\x89PNG")
        assert ("An arrow stands for a mean far outside the picture" in picture.caption) is (0.1 in means)
        assert f"{100 * means[-1] + 0.15:.2f} %" in picture.alt


@pytest.mark.parametrize("values", [CLOSE, (0.1, *CLOSE)])
def test_the_caption_of_the_best_so_far_counts_what_is_left_out(values):
    finishes = [
        Finish(trial=number, seconds=10.0 * number, epochs=5 * number, value=value, best=max(values[:number]))
        for number, value in enumerate(values, start=1)
    ]
    picture = best_over_time(finishes, a_trial(len(values), values[-1]), (100.0, 50))
    assert picture.png.startswith(b"\x89PNG")
    assert ("Left out: 1 trial far worse than the others." in picture.caption) is (0.1 in values)


@pytest.mark.parametrize("values", [CLOSE, (0.1, *CLOSE)])
def test_the_trials_that_are_compared_are_drawn_without_those_far_worse(values):
    space = a_space(search={"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1]}})
    trials = [
        a_trial(number, *[value] * space.budget.epochs, stored={"lr": 0.01 * number}, values={"lr": 0.01 * number})
        for number, value in enumerate(values, start=1)
    ]
    found = comparable(space, trials)
    assert found.trials == len(values), "importances are of all"
    for picture in (parallel_coordinates(found, space), *slices(found, space)):
        assert f"{len(CLOSE)} trials; dark" in picture.caption
        assert ("Left out: 1 trial far worse than the others." in picture.caption) is (0.1 in values)
