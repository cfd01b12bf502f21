"""Files of a search's best configs: written, read again, refused; and those that come with the package."""

from __future__ import annotations

import tomllib

import pytest
import yaml
from support.factories import SEARCH, SHIPPED, a_search, a_search_record, a_space, a_trial
from support.pages import REPOSITORY

from ctkd_search.config import plain
from ctkd_search.display.overview import exported_configs
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.records.config_list import PUBLISHED, ListedConfig, list_text, published_names, read_list
from ctkd_search.records.store import STOPPED
from ctkd_search.space.document import read
from ctkd_search.space.reader import kept_space
from ctkd_search.space.transfer import Elsewhere, transfer


def written(root, **fields):
    """The text of the file of a search of two trials."""
    space = a_space(search={**SEARCH, "augment": {"choice": {"a": {}, "b": {"mixup": 0.2, "crop": 2}}}})
    point = space.paper_point()
    trials = [
        a_trial(1, 0.5, space=space, stored={**point, "augment": "b", "lr": 0.1 + 0.2 - 0.1}),
        a_trial(2, 0.6, space=space, stored={**point, "step_loss": "mse"}),
        a_trial(3, 0.9, space=space, stored=point, status=STOPPED),
    ]
    a_search(root, trials, space, name="mine", geometry=[10, 1, 8], **fields)
    return exported_configs(root, "mine"), trials


def test_what_was_written_is_read_again_with_every_digit(tmp_path):
    text, trials = written(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    read = read_list(path)
    assert (read.name, read.dataset, read.geometry) == ("mine", "digits", Geometry(10, 1, 8))
    assert (read.epochs, read.objective) == (9, "validation_accuracy")
    assert [(one.trial, one.value, one.seeds) for one in read.configs] == [(2, 0.6, 0), (1, 0.5, 0)]
    for one, trial in zip(read.configs, (trials[1], trials[0]), strict=True):
        assert {**one.values, "augment": trial.values["augment"]} == plain(trial.values)
    assert read.configs[1].values["lr"] == 0.1 + 0.2 - 0.1
    assert read.configs[1].augment["mixup"] == 0.2
    assert read.configs[1].augment["crop"] == 2


def test_a_search_of_which_nothing_has_finished_has_no_best_configs(tmp_path):
    a_search(tmp_path, [a_trial(1, 0.5, status=STOPPED)], a_space(), name="none", geometry=[10, 1, 8])
    with pytest.raises(UserError, match="no trial of search 'none' has finished yet; wait for the first one"):
        exported_configs(tmp_path, "none")


def test_a_record_without_the_size_of_its_images_is_refused():
    space = a_space()
    with pytest.raises(UserError, match="does not have the size of its images"):
        list_text(space, a_search_record(space), 1, [ListedConfig(1, 0.5, 0, {}, {})])


IMAGES = {"name": "digits", "classes": 10, "channels": 1, "image_size": 8}
CONFIG = {"trial": 1, "value": 0.5, "seeds": 0, "values": {"pair": "wrn-16-2/resnet8"}, "augment": {}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "has format 2, and ctkd-search"),
        ({"format": None}, "has format 0, and ctkd-search"),
        ({"epoch": 3}, "epoch is not a known key (did you mean epochs?)"),
        ({"epochs": "many"}, "epochs must be a whole number, but got 'many'"),
        ({"epochs": 0}, "epochs must be at least 1, but got 0"),
        ({"epochs": -5}, "epochs must be at least 1, but got -5"),
        ({"dataset": {**IMAGES, "image_size": 0}}, "dataset.image_size must be at least 1, but got 0"),
        ({"dataset": {**IMAGES, "classes": 0}}, "dataset.classes must be at least 2, but got 0"),
        ({"dataset": {**IMAGES, "channels": -3}}, "dataset.channels must be 1 or 3, but got -3"),
        ({"objective": "speed"}, "objective must be one of validation_accuracy, "),
        ({"dataset": "digits"}, "dataset must be a mapping of name, classes, channels, image_size, but got 'digits'"),
        ({"dataset": {"name": "digits"}}, "dataset.classes must be a whole number, but got None"),
        ({"best_configs_of": "a/b"}, "best_configs_of must be letters, digits"),
        ({"configs": []}, "configs must be a list of at least one config, but got []"),
        ({"configs": None}, "configs must be a list of at least one config, but got None"),
        ({"configs": ["x"]}, "configs.0 must be a mapping of trial, value, seeds, values, augment, but got 'x'"),
        ({"configs": [{**CONFIG, "values": 3}]}, "configs.0.values must be a mapping, but got 3"),
        ({"configs": [{**CONFIG, "value": "high"}]}, "configs.0.value must be a number"),
        ({"configs": [{**CONFIG, "value": float("nan")}]}, "configs.0.value must be finite and at least 0, but got"),
        ({"configs": [{**CONFIG, "trial": -1}]}, "configs.0.trial must be at least 1, but got -1"),
        ({"configs": [{**CONFIG, "seeds": -1}]}, "configs.0.seeds must be at least 0, but got -1"),
        ({"configs": [{**CONFIG, "augment": 3}]}, "configs.0.augment must be a mapping, with the keys crop, "),
        ({"configs": [{**CONFIG, "augment": {"foo": {"a": 1}}}]}, "configs.0.augment.foo is not a known key"),
        ({"configs": [{**CONFIG, "values": {"pair": "foo/bar"}}]}, "configs.0.values.pair foo/bar: unknown arch"),
        ({"configs": [{**CONFIG, "values": {"method": "kdd"}}]}, "configs.0.values.method must be one of "),
        ({"configs": [{**CONFIG, "values": {}}]}, "configs.0.values.pair is missing"),
        (
            {"configs": [{**CONFIG, "values": {"pair": "wrn-16-2/resnet8", "betta": 3}}]},
            "configs.0.values.betta is not a known key (did you mean beta?)",
        ),
        (
            {"configs": [{**CONFIG, "values": {"pair": "wrn-16-2/resnet8", "lr": -1}}]},
            "configs.0.values.lr must be greater than 0, but got -1",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_faults_of_a_file_are_named(tmp_path, changes, said):
    content = {**yaml.safe_load(written(tmp_path)[0]), **changes}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(UserError) as caught:
        read_list(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("pair", ["timm/gone -> resnet8", "gone_code:Teacher/gone_code:Student"])
def test_networks_of_another_machine_may_be_missing_here(tmp_path, pair):
    content = yaml.safe_load(written(tmp_path)[0]) | {"configs": [{**CONFIG, "values": {"pair": pair}}]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    assert read_list(path).configs[0].values["pair"] == pair


def test_published_configs_are_part_of_the_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert "published/*.yaml" in settings["tool"]["setuptools"]["package-data"]["ctkd_search"]
    named = sorted(path.name for path in (REPOSITORY / "trials" / "published").iterdir())
    assert named == sorted(path.name for path in PUBLISHED.glob("*.yaml"))
    assert "digits" in published_names()


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_published_configs_are_of_real_searches_and_fit_the_shipped_spaces(path):
    listed = read_list(path)
    chance = 1 / listed.geometry.classes
    # The best three, and the best one of each other method.
    methods = [one.values["method"] for one in listed.configs]
    assert len(methods) >= 3
    assert all(methods.count(method) == 1 for method in methods[3:])
    assert all(one.value > 2 * chance for one in listed.configs)
    for shipped in SHIPPED:
        space = kept_space(read(shipped).data, "recorded")
        points = [
            transfer(space, Elsewhere(one.values, one.augment, listed.geometry, listed.epochs))
            for one in listed.configs
            if one.values["method"] in space.methods()
        ]
        assert points, shipped
        assert all(point is not None and space.decode(point.stored) for point in points), shipped
