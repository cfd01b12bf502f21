"""Smoothed labels and class weights of the recipe beside the methods of a space."""

from pathlib import Path

import pytest
import yaml
from support.space_texts import HEAD, space

from ctkd_search.errors import UserError
from ctkd_search.records.config_file import read_config

pytestmark = pytest.mark.usefixtures("own_directory")
ALONE = "{method: none, pair: wrn-16-2/resnet8, lr: {float: [0.1, 0.2]}"


@pytest.mark.parametrize(
    ("train", "search", "message"),
    [
        (
            "{label_smoothing: 0.1}",
            f"{ALONE}, none: {{label_smoothing: 0.2}}}}",
            "search.none.label_smoothing takes the place of train.label_smoothing; leave one of the two out",
        ),
        (
            "{}",
            f"{ALONE}, label_smoothing: {{float: [0, 0.1]}}, none: {{label_smoothing: {{float: [0, 0.2]}}}}}}",
            "search.none.label_smoothing takes the place of search.label_smoothing; leave one of the two out",
        ),
        (
            "{label_smoothing: 0.1}",
            "{method: kd, kd: {weight: 1}, lr: {float: [0.1, 0.2]}}",
            "train.label_smoothing has no effect, because no trial's loss has the labels; leave it out",
        ),
        (
            "{}",
            "{method: kd, kd: {weight: 1}, label_smoothing: {float: [0, 0.2]}}",
            "search.label_smoothing has no effect, because no trial's loss has the labels; leave it out",
        ),
        ("{label_smoothing: 1}", "{lr: {float: [0.1, 0.2]}}", "train.label_smoothing must be in [0, 1), but got 1"),
        (
            "{label_smoothing: 0.1}",
            "{label_smoothing: {float: [0, 0.2]}}",
            "train.label_smoothing is under search too; leave one of the two out",
        ),
        (
            "{class_weights: balanced}",
            "{method: kd, kd: {weight: 1}, lr: {float: [0.1, 0.2]}}",
            "train.class_weights has no effect, because no trial's loss has the labels; leave it out",
        ),
        (
            "{}",
            "{method: kd, kd: {weight: 1}, class_weights: {choice: [none, balanced]}}",
            "search.class_weights has no effect, because no trial's loss has the labels; leave it out",
        ),
        (
            "{class_weights: balanced}",
            "{class_weights: {choice: [none, balanced]}}",
            "train.class_weights is under search too; leave one of the two out",
        ),
        *(
            (
                f"{{class_weights: {value}}}",
                "{lr: {float: [0.1, 0.2]}}",
                "train.class_weights must be one of none, balanced, effective, or a list of a number greater than 0 "
                f"for each class, but got {shown}",
            )
            for value, shown in [
                ("balancd", "'balancd'"),
                ("2", "2"),
                ("[]", "[]"),
                ("[1, 0]", "[1, 0]"),
                ("[1, true]", "[1, True]"),
                ("[1, .inf]", "[1, inf]"),
                ("", "None"),
            ]
        ),
        (
            "{class_weights: [1, 2, 3]}",
            "{lr: {float: [0.1, 0.2]}}",
            "train.class_weights must have one weight for each of the 10 classes, but got 3",
        ),
        (
            "{}",
            "{class_weights: {choice: [none, [1, 2]]}}",
            "search.class_weights.choice.1 must be one of none, balanced, effective, but got [1, 2]",
        ),
        (
            "{effective_beta: 0.9}",
            "{lr: {float: [0.1, 0.2]}}",
            "train.effective_beta has no effect where class_weights is none; leave it out",
        ),
        (
            "{}",
            "{class_weights: {choice: [balanced, effective]}, effective_beta: {float: [0.9, 0.99]}}",
            "search.effective_beta has no effect where class_weights is balanced; "
            "add when: {class_weights: [effective]}",
        ),
        ("{class_weights: effective, effective_beta: 1}", "{lr: {float: [0.1, 0.2]}}", "must be in (0, 1), but got 1"),
    ],
)
def test_what_has_no_effect_or_is_given_twice_or_cannot_be_is_refused(train, search, message):
    with pytest.raises(UserError) as caught:
        space(f"train: {train}\nsearch: {search}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("train", "search"),
    [
        ("{}", f"{ALONE}, none: {{label_smoothing: 0.2}}}}"),
        ("{label_smoothing: 0.1}", f"{ALONE}, none: {{label_smoothing: 0}}}}"),
        ("{label_smoothing: 0.1}", "{method: {choice: [kd, ctkd]}, kd: {weight: 1}}"),
        ("{label_smoothing: 0.1}", "{method: kd, kd: {weight: {float: [0, 1]}}}"),
        (f"{{class_weights: {[0.5, 2] * 5}}}", "{lr: {float: [0.1, 0.2]}}"),
        ("{class_weights: balanced}", "{method: {choice: [kd, ctkd]}, kd: {weight: 1}}"),
        ("{effective_beta: 0.9}", "{class_weights: {choice: [none, effective]}}"),
    ],
)
def test_settings_with_an_effect_are_taken(train, search):
    assert space(f"train: {train}\nsearch: {search}\n").name == "x"


def test_the_teachers_take_one_weight_for_each_class_too():
    found = space("search: {lr: {float: [0.1, 0.2]}}\n", f"teachers.recipe.class_weights={[1] * 10}")
    assert found.teachers.recipe.class_weights == (1.0,) * 10
    with pytest.raises(UserError, match=r"teachers\.recipe\.class_weights must have one weight for each of the 10 "):
        space("search: {lr: {float: [0.1, 0.2]}}\n", "teachers.recipe.class_weights=[1, 2]")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("train: {class_weights: balanced}\nsearch: {lr: {float: [0.1, 0.2]}}\n", "train"),
        ("search: {class_weights: {choice: [none, effective]}}\n", "search"),
        (
            "teachers: {recipe: {class_weights: effective}}\nsearch: {lr: {float: [0.1, 0.2]}}\n",
            "teachers.recipe",
        ),
    ],
)
def test_weights_by_frequency_are_refused_where_classes_are_equally_frequent(given, place):
    assert space(given).name == "x"
    with pytest.raises(UserError, match=r"augment\.sampling is balanced") as caught:
        space(given, "augment.sampling=balanced")
    assert f"{place}.class_weights has no effect where augment.sampling is balanced; leave one" in str(caught.value)


@pytest.mark.parametrize("when", ["", ", when: {augment: sampled}", ", when: {augment: [plain, sampled]}"])
def test_weights_by_frequency_are_searched_only_with_alternatives_in_which_frequencies_differ(when):
    def given(when):
        entry = f"{{choice: [none, balanced]{when}}}"
        augment = "{choice: {plain: {}, sampled: {sampling: balanced}}}"
        return space(f"search: {{augment: {augment}, class_weights: {entry}}}\n", "train.lr=0.2")

    message = r"search\.class_weights has no effect where augment is sampled; add when: \{augment: \[plain\]\}"
    with pytest.raises(UserError, match=message):
        given(when)
    chosen = given(", when: {augment: plain}")
    assert chosen.decode({"augment": "sampled"})["class_weights"] == "none"
    assert chosen.decode({"augment": "plain", "class_weights": "balanced"})["class_weights"] == "balanced"


def test_fixed_weights_by_frequency_are_refused_where_they_act_in_some_trials_alone():
    given = "search: {augment: {choice: {plain: {}, sampled: {sampling: balanced}}}}\n"
    with pytest.raises(UserError, match=r"train\.class_weights has no effect where augment\.sampling is balanced"):
        space(given, "train.class_weights=balanced")


def test_teachers_are_weighted_by_frequency_with_the_alternatives_in_which_frequencies_differ():
    given = "search: {augment: {choice: {plain: {}, sampled: {sampling: balanced}}}}\n"
    chosen = space(given, "teachers.recipe.class_weights=balanced")
    for name, weights in (("plain", "balanced"), ("sampled", "none")):
        config = chosen.config(chosen.decode({"augment": name}))
        assert config.teachers.recipe.class_weights == weights


def test_given_weights_stay_beside_balanced_sampling():
    given = f"train: {{class_weights: {[1, 2] * 5}}}\nsearch: {{lr: {{float: [0.1, 0.2]}}}}\n"
    assert space(given, "augment.sampling=balanced").augment.sampling == "balanced"


def test_class_weights_are_searched():
    chosen = space(
        "search: {class_weights: {choice: [none, effective]}, "
        "effective_beta: {choice: [0.9, 0.99], when: {class_weights: effective}}}\n"
    )
    assert chosen.paper_point() == {"class_weights": "none"}
    stored = {"class_weights": "effective", "effective_beta": "0.9"}
    recipe = chosen.config(chosen.decode(stored)).train
    assert (recipe.class_weights, recipe.effective_beta) == ("effective", 0.9)
    assert chosen.encode(chosen.effective(chosen.decode(stored))) == stored


def test_smoothing_is_searched():
    chosen = space("search: {label_smoothing: {float: [0.1, 0.2]}}\n")
    values = chosen.decode({"label_smoothing": 0.15})
    assert chosen.config(values).train.label_smoothing == 0.15


@pytest.mark.parametrize(("key", "value"), [("label_smoothing", 0.1), ("class_weights", "balanced")])
def test_a_config_whose_loss_has_no_labels_refuses_what_is_made_of_them(key, value):
    content = {
        **yaml.safe_load(HEAD),
        "pair": "wrn-16-2/resnet8",
        "epochs": 2,
        "method": {"name": "kd", "weight": 1.0},
        "train": {key: value},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=rf"train\.{key} has no effect, because the loss has no labels"):
        read_config(Path("config.yaml"))


def test_a_config_has_one_weight_for_each_class():
    content = {**yaml.safe_load(HEAD), "pair": "wrn-16-2/resnet8", "epochs": 2, "method": {"name": "kd"}}
    Path("config.yaml").write_text(yaml.safe_dump({**content, "train": {"class_weights": [1, 2]}}))
    with pytest.raises(UserError, match=r"train\.class_weights must have one weight for each of the 10 classes, but"):
        read_config(Path("config.yaml"))
    sampled = {**content, "augment": {"sampling": "balanced"}, "teachers": {"recipe": {"class_weights": "balanced"}}}
    Path("config.yaml").write_text(yaml.safe_dump(sampled))
    with pytest.raises(UserError, match=r"teachers\.recipe\.class_weights has no effect where augment\.sampling is"):
        read_config(Path("config.yaml"))
    Path("config.yaml").write_text(yaml.safe_dump({**content, "train": {"class_weights": [1] * 10}}))
    assert read_config(Path("config.yaml")).config.train.class_weights == (1.0,) * 10
