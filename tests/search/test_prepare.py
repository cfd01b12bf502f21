"""The preparation of the teachers before the first trial begins."""

from support.factories import a_space, a_trial

from ctkd_search.distill.asked import ExpertKey
from ctkd_search.distill.requests import LOGITS, TeacherOutput
from ctkd_search.geometry import Geometry
from ctkd_search.records.trial_configs import config_of
from ctkd_search.search.comparisons import missing_confirmations
from ctkd_search.search.prepare import asked_of, describe_recordings, needs_left, needs_of_space

DIGITS = Geometry(10, 1, 8)


def needs(search, **changes):
    search = {"pair": "wrn-10-1/resnet8", "lr": {"float": [0.1, 0.2]}, **search}
    return needs_of_space(a_space(**{"budget": {"trials": 10, "epochs": 12}, **changes}, search=search))


def test_all_that_the_methods_of_a_search_ask_is_known():
    attention = {TeacherOutput("attention", layer) for layer in (1, 2, 3)}
    statistics = {TeacherOutput("statistics", layer) for layer in (1, 3)}
    search = {"method": {"choice": ["at", "kd", "fs", "fitnets", "none"]}, "fs": {"statistics_layers": [1, 3]}}
    asked = asked_of(needs(search))
    assert asked.keys() == {ExpertKey("wrn-10-1", 0)}
    assert set(asked[ExpertKey("wrn-10-1", 0)]) == {LOGITS, *attention, *statistics}


def test_pairs_with_one_teacher_share_it_and_others_do_not():
    pairs = {"choice": ["wrn-10-1/resnet8", "wrn-10-1/wrn-10-1", "wrn-16-1/resnet8"]}
    asked = asked_of(needs({"pair": pairs, "method": "at"}))
    assert set(asked) == {ExpertKey("wrn-10-1", 0), ExpertKey("wrn-16-1", 0)}


def test_every_number_of_anchors_in_a_range_is_known():
    found = needs({"method": "rco", "rco": {"anchors": {"int": [2, 4]}}})
    assert {len(need.needs.anchors) for need in found} == {2, 3, 4}
    # A half; thirds; quarters; and the end.
    assert set(asked_of(found)) == {ExpertKey("wrn-10-1", 0, anchor) for anchor in (6, 4, 8, 3, 9, None)}


def test_what_will_be_recorded_is_reported_once_for_all_methods():
    both = describe_recordings(needs({"method": {"choice": ["at", "kd"]}}), 1_000_000, DIGITS)
    size = 12 * 1_000_000 * 2 * (10 + 8 * 8 + 4 * 4 + 2 * 2) / 1e9
    assert (
        both == f"the experts' logits and attention maps are recorded in one pass over each epoch, up to {size:.2g} GB"
    )
    augment = {"choice": {"weak": {}, "strong": {"mixup": 0.2}}}
    twice = describe_recordings(needs({"method": {"choice": ["at", "kd"]}, "augment": augment}), 1_000_000, DIGITS)
    assert twice == both.replace(f"{size:.2g}", f"{2 * size:.2g}")
    kd = describe_recordings(needs({"method": "kd"}, teachers={"cache_limit": "1MB"}), 1_000_000, DIGITS)
    assert kd.startswith("the experts' logits are recorded in one pass over each epoch, up to 0.24 GB; beyond")
    pkt = describe_recordings(needs({"method": {"choice": ["pkt", "rkd"]}}), 1_000_000, DIGITS)
    size = 12 * 1_000_000 * 2 * (10 + 64) / 1e9
    assert pkt == f"the experts' logits and embeddings are recorded in one pass over each epoch, up to {size:.2g} GB"
    assert describe_recordings(needs({"method": "fitnets"}), 1_000_000, DIGITS) is None
    assert describe_recordings(needs({"method": "at"}, teachers={"mode": "live"}), 1_000_000, DIGITS) is None


def test_trials_that_are_left_of_an_interrupted_confirmation_have_teachers_of_their_own_seeds():
    space = a_space(confirm={"best": 1, "seeds": 2}, baselines=["student-alone"])
    searched = [a_trial(number, 0.5 + number / 10) for number in (1, 2)]
    waiting = missing_confirmations(space, {trial.number: trial for trial in searched}, {})
    assert {trial.seed for trial in waiting} == {1, 2}
    for there, seeds in ((searched, {0}), ([*searched, *waiting], {0, 1, 2}), ([*searched, *waiting[1:]], {0, 2})):
        found = needs_left(space, there, lambda trial: config_of(space, trial))
        assert {need.config.seed for need in found if need.needs.any_expert} == seeds
