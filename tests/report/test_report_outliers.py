"""The picture of means leaves out what is so much worse that the others could not be told apart."""

import pytest
from support.factories import a_trial

from ctkd_search.analysis.standing import Confirmed
from ctkd_search.report import figures

CLOSE = (0.97, 0.975, 0.976, 0.98, 0.983, 0.985)


def config(number, mean, **more):
    return Confirmed(a_trial(number, mean, **more), {seed: mean + 0.001 * seed for seed in (1, 2)})


def configs(*means, **more):
    return [config(number, mean, **more) for number, mean in enumerate(means, start=1)]


@pytest.mark.parametrize(
    ("means", "outside"),
    [
        ((*CLOSE, 0.1), [0.1]),
        ((*CLOSE, 0.1, 0.2), [0.1, 0.2]),
        (CLOSE, []),
        ((*CLOSE, 0.95), []),  # far from the others, which are told apart even so
        ((0.98, 0.97, 0.975, 0.1), []),  # too few to say
        ((0.2, 0.22, 0.19, 0.21, 0.2, 0.97), []),  # so much better is what people look for
    ],
)
def test_what_is_far_below_the_others_is_outside(means, outside):
    found = figures.far_below(configs(*means))
    assert [config.trial.accuracy for config in found] == outside


def test_far_below_is_above_where_lower_is_better():
    found = figures.far_below(configs(*(1 - mean for mean in (*CLOSE, 0.1)), objective="validation_loss"))
    assert [one.trial.number for one in found] == [7]


@pytest.mark.parametrize("means", [CLOSE, (*CLOSE, 0.1)])
def test_the_caption_tells_of_arrows_where_there_are_any(means):
    given = configs(*means)
    for picture in (
        figures.confirmation(given, given[5].trial),
        figures.methods([(f"method{one.trial.number}", one) for one in given], given[5].trial),
    ):
        assert picture.png.startswith(b"\x89PNG")
        assert ("An arrow stands for a mean far outside the picture" in picture.caption) is (0.1 in means)
        assert f"{100 * means[-1] + 0.15:.2f} %" in picture.alt
