"""The published searches begin again as they are recorded, and their best trials are those of the published configs."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from PIL import Image
from published_search import SPACES, WARM_STARTS, best_trials

from ctkd_search.api.search import Search
from ctkd_search.records.config_list import published_names, read_published
from ctkd_search.search.study import Study
from ctkd_search.search.warm_start import begin_study, compared, read_sources
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import read_space

NAMES = sorted(path.stem for path in SPACES.glob("*.yaml"))
# Optuna's TPE draws so many trials at random before it looks at results.
STARTUP = 10


class Recorded(Search):
    """A search of which its trials alone are known."""

    def __init__(self, trials: pandas.DataFrame) -> None:
        self._trials = trials

    @property
    def trials(self) -> pandas.DataFrame:
        """The recorded trials."""
        return self._trials


def recorded(name: str) -> pandas.DataFrame:
    return pandas.read_csv(SPACES / f"{name}-trials.csv")


@pytest.fixture
def space(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Space:
    """A published space, with five images of each of ten classes."""
    for number in range(10):
        directory = tmp_path / "images" / "train" / f"class{number}"
        directory.mkdir(parents=True)
        for image in range(5):
            pixels = np.random.default_rng(image).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(directory / f"{image}.png")
    monkeypatch.chdir(tmp_path)
    return read_space(SPACES / f"{request.param}.yaml")


@pytest.mark.parametrize(("space", "name"), [(name, name) for name in NAMES], indirect=["space"])
def test_its_first_trials_are_suggested_again(space, name, tmp_path):
    expected = recorded(name)
    expected = expected[expected["kind"] == "trial"].head(STARTUP)
    study = Study(space, None, name, lambda trial: [0.0])
    sources = compared(read_sources(WARM_STARTS.get(name, []), tmp_path, name), space, "")
    begin_study(study, space, SimpleNamespace(warm_start=[]), sources, lambda line: None)
    for position, row in enumerate(expected.to_dict("records")):
        asked = study.ask(int(row["trial"]), range(position))
        drawn = {key: value for key, value in asked.stored.items() if isinstance(value, float)}
        assert asked.values["method"] == row["method"]
        assert set(drawn) > {"lr"}
        assert all(math.isclose(row[key], value, rel_tol=1e-9) for key, value in drawn.items()), row["trial"]


@pytest.mark.parametrize("name", [name for name in NAMES if name in published_names()])
def test_the_published_configs_are_its_best_trials(name):
    best = best_trials(Recorded(recorded(name)))
    configs = read_published(name).configs
    first = {str(config.values["method"]): config.trial for config in reversed(configs)}
    assert first == {method: best[method] for method in first}
