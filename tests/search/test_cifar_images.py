"""The shipped space searches real CIFAR-10 photographs in torchvision's own layout."""

import numpy as np
import pytest
from support.factories import SPACES
from support.here import command, fresh_store
from support.layouts import write_cifar10

from ctkd_search.config import DatasetConfig
from ctkd_search.data import load_test
from ctkd_search.data.registry import describe
from ctkd_search.records.store import SearchFolder
from ctkd_search.space.baselines import USUAL

pytestmark = pytest.mark.slow


def folder_config(root):
    return DatasetConfig("folder", root=str(root), image_size=32, validation=0.2)


def test_the_shipped_space_runs_on_torchvisions_layout(cifar_jpeg, tmp_path):
    config = folder_config(cifar_jpeg)
    train, test = describe("folder").load_train(config).train.held(), load_test(config)
    order = np.random.default_rng(0).permutation(len(train))
    root = tmp_path / "downloads"
    write_cifar10(root, (train.pixels[order], train.labels[order]), (test.pixels, test.labels))
    changes = [
        f"--set=dataset.root={root}",
        "--set=dataset.verify=false",
        "--trials=3",
        "--epochs=2",
        "--set=budget.grace_period=2",
        "--set=search.warmup={float: [0, 1]}",
        # The smallest of its pairs.
        "--set=search.pair=wrn-40-1/wrn-16-1",
    ]
    changes += ["--set=confirm.best=1", "--set=confirm.seeds=2"]
    fresh_store(tmp_path / "trials" / "mlflow.db")
    ended = command("run", SPACES / "cifar10.yaml", *changes, directory=tmp_path, whole=False)
    assert ended.code == 0, ended.said
    assert "data: 70 training images, 10 held out for validation" in ended.out
    trials = SearchFolder(tmp_path / "trials", "cifar10").trials()
    assert {trial.status for trial in trials} == {"finished"}
    searched = [trial for trial in trials if trial.explores]
    assert searched[0].values["pair"] == "wrn-40-1/wrn-16-1"
    assert len(searched) == 3
    assert {trial.baseline for trial in trials if trial.kind == "baseline"} == set(USUAL)
