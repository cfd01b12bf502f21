"""The choice of the baselines of a final training: named ones, and configs of files."""

import dataclasses
from pathlib import Path

import pytest
from support.final import KD, METHOD, a_config
from support.methods import with_values

from ctkd_search.api.training import split_words
from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, MethodConfig, TeachersConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.final.baselines import Baselines, choose_baselines
from ctkd_search.recipe import Recipe
from ctkd_search.space.baselines import BASELINES, USUAL
from ctkd_search.space.document import dump

ALL = ",".join(BASELINES)


def choose(asked, *others):
    """The baselines of words as the command line has them."""
    return choose_baselines(asked and split_words(asked), *others)


def test_the_usual_baselines_are_trained_by_default_where_there_are_several_seeds():
    assert choose(None, a_config(), 1) == Baselines()
    chosen, notes, _ = choose(None, a_config(), 2)
    assert set(chosen) == {"student-alone", "kd", "at", "scratch-only", "ctkd-paper"} == set(USUAL)
    assert notes == ()
    assert choose(ALL, a_config(), 1) == Baselines(tuple(BASELINES))
    assert choose("none", a_config(), 5) == Baselines()
    assert choose("kd, student-alone", a_config(), 1) == Baselines(("student-alone", "kd"))


@pytest.mark.parametrize(
    ("method", "left_out"),
    [
        (KD, "kd"),
        (with_values(METHOD, alpha=0.0, beta=0.0), "student-alone"),
        (with_values(METHOD, alpha=0.0), "at"),
        (with_values(METHOD, beta=0.0), "scratch-only"),
        (
            with_values(METHOD, temperature=4.0, alpha=1.0, beta=62.5, attention_layers=(1, 2, 3)),
            "ctkd-paper",
        ),
    ],
)
def test_a_baseline_that_is_the_config_itself_is_left_out_or_refused(method, left_out):
    chosen, notes, _ = choose(None, a_config(method), 2)
    assert set(USUAL) - set(chosen) == {left_out}
    assert notes == (f"baseline {left_out} is left out: it is the same as the config itself",)
    with pytest.raises(UserError, match=f"--baselines: {left_out} is the same as the config itself; leave it out"):
        choose(ALL, a_config(method), 2)


@pytest.mark.parametrize(
    ("changes", "asked", "said"),
    [
        ({"teacher": "wrn-10-2"}, "fs", "fs cannot be used with the pair .*bridge: true"),
        (
            {"teachers": TeachersConfig(expert=ExpertConfig(checkpoint={"wrn-10-1": "mine.pt"}))},
            "rco",
            "rco cannot be used with the expert .*your checkpoint contains one set.*leave it out",
        ),
    ],
)
def test_a_baseline_that_the_teachers_of_a_config_cannot_give_is_refused(changes, asked, said):
    with pytest.raises(UserError, match=said):
        choose(asked, dataclasses.replace(a_config(), **changes), 2)
    assert choose("fs-bridged,kd", dataclasses.replace(a_config(), **changes), 2)[0] == ("kd", "fs-bridged")


def test_a_baseline_whose_maps_cannot_be_compared_is_left_out():
    # Without attention, the layers that a config names need not be there.
    method = with_values(METHOD, beta=0.0, attention_layers=(4,))
    chosen, notes, _ = choose(None, a_config(method), 2)
    assert "at" not in chosen
    assert any("at is left out: it cannot be used with the pair" in note and "no layer 4" in note for note in notes)
    assert "ctkd-paper" in chosen


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "kb",
            f"--baselines: unknown baseline 'kb'; there are: {', '.join(BASELINES)}, and files",
        ),
        ("kd,", "--baselines: a name is empty; there is a comma too many"),
        ("kd,none", "--baselines: none stands for no baseline, and alone"),
        (
            "./configs",
            "--baselines: ./configs is not the name of a baseline, and the file of a config ends in .yaml or",
        ),
        ("kd,kd", "--baselines: kd is duplicated"),
    ],
)
def test_unknown_and_duplicated_baselines_are_refused(asked, said):
    with pytest.raises(UserError) as caught:
        choose(asked, a_config(), 2)
    assert str(caught.value).startswith(said)


def config_file(path, config):
    """Writes a config as export does; returns the path."""
    method = config.method.as_dict()
    content = {
        "name": "x",
        "pair": f"{config.teacher}/{config.student}",
        "epochs": config.epochs,
        "seed": config.seed,
        "method": {key: list(value) if isinstance(value, tuple) else value for key, value in method.items()},
        "train": config.as_dict()["train"],
        "teachers": {"seed": config.teachers.seed, "recipe": config.as_dict()["teachers"]["recipe"]},
        "dataset": {key: value for key, value in config.as_dict()["dataset"].items() if value is not None},
        "augment": config.augment.given(),
        "objective": config.objective,
    }
    path.write_text(dump(content))
    return str(path)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_of_a_file_keeps_its_own_method_recipe_pair_and_augmentation(in_folder):
    own = a_config(
        KD, student="wrn-16-1", teacher="wrn-16-2", train=Recipe(lr=0.2, batch_size=64), augment=Augment(crop=1)
    )
    config_file(in_folder / "tuned-kd.yaml", dataclasses.replace(own, seed=9))
    chosen = choose("tuned-kd.yaml,at,student-alone", a_config(student_seed=3), 2)
    assert chosen.names == ("student-alone", "at", "tuned-kd")
    found = chosen.files["tuned-kd"]
    assert make_method(found.method).values == make_method(KD).values
    assert dataclasses.replace(found, method=KD) == dataclasses.replace(own, student_seed=3)
    assert (list(chosen.files), chosen.notes) == (["tuned-kd"], ())


def test_paths_are_files_whatever_they_are_called(in_folder):
    for name in ("mine", "tuned.YAML"):
        config_file(in_folder / name, a_config(KD))
    assert choose_baselines([Path("mine"), "kd"], a_config(), 2).names == ("kd", "mine")
    assert choose("tuned.YAML", a_config(), 2).names == ("tuned",)
    with pytest.raises(UserError, match=r"mine is not the name of a baseline, and the file of a config ends in \.yaml"):
        choose("mine", a_config(), 2)


def test_it_takes_the_epochs_that_the_user_asks_for(in_folder):
    config_file(in_folder / "kd2.yml", a_config(KD))
    chosen = choose("kd2.yml", a_config(epochs=30), 1, 30)
    assert chosen.files["kd2"].epochs == 30
    config_file(in_folder / "rco2.yaml", a_config(MethodConfig("rco")))
    with pytest.raises(UserError, match="--epochs 1 is too few for method rco"):
        choose("rco2.yaml", a_config(epochs=1), 1, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"dataset": DatasetConfig("digits", validation=0.3)},
            "dataset.validation: None in the config, 0.3 in other.y",
        ),
        ({"epochs": 9}, "epochs: 7 in the config, 9 in other.yaml"),
        ({"teachers": TeachersConfig(seed=21)}, "teachers.seed: 20 in the config, 21 in other.yaml"),
        ({"objective": "validation_loss"}, "objective: 'validation_accuracy' in the config, 'validation_loss' in o"),
        ({"train": Recipe(precision="float32")}, "train.precision: 'auto' in the config, 'float32' in other.yaml"),
    ],
)
def test_configs_that_had_other_conditions_are_refused(in_folder, changes, said):
    config_file(in_folder / "other.yaml", a_config(KD, **changes))
    with pytest.raises(UserError, match=r"--baselines: other\.yaml cannot be compared with the config") as refused:
        choose("other.yaml", a_config(), 2)
    assert f"\n  {said}" in str(refused.value)


def test_names_of_files_are_told_apart(in_folder):
    for path in ("kd.yaml", "a.yaml", "a.yml", "bad name.yaml"):
        config_file(in_folder / path, a_config(KD))
    for asked, said in (
        ("kd.yaml", "--baselines: kd.yaml has the name of a baseline; rename the file, as in tuned-kd.yaml"),
        ("a.yaml,a.yml", "--baselines: two files are named a; rename one, so that they can be told apart"),
        ("a.yaml,a.yaml", "--baselines: a.yaml is duplicated; name it once"),
        (
            "bad name.yaml",
            "--baselines: the name of the file bad name.yaml, without its suffix, must be letters, digits",
        ),
        ("none,a.yaml", "--baselines: none stands for no baseline, and alone"),
        ("lost.yaml", "--baselines: there is no file lost.yaml"),
    ):
        with pytest.raises(UserError) as refused:
            choose(asked, a_config(), 2)
        assert str(refused.value).startswith(said)


def test_the_config_itself_in_a_file_is_refused(in_folder):
    config_file(in_folder / "again.yaml", a_config(seed=5))
    with pytest.raises(UserError, match=r"again\.yaml is the same as the config itself; leave it out"):
        choose("again.yaml", a_config(), 2)


def test_faults_of_a_file_are_told_with_their_lines(in_folder):
    (in_folder / "faulty.yaml").write_text("name: x\nepoch: 3\n")
    with pytest.raises(
        UserError, match=r"faulty\.yaml has 5 errors:\n(  line 1: .*\n)*  line 2: epoch is not a known key"
    ):
        choose("faulty.yaml", a_config(), 2)
