"""A whole search over three methods, killed on the way: as many trials of each, and the best of each confirmed."""

import re
from collections import Counter

import mlflow
import pytest
from support.live import Live, few_images, running_with_epochs

from ctkd_search.analysis.by_method import by_method
from ctkd_search.records.store import FINISHED, SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
METHODS = ("ctkd", "kd", "none")
SEARCH = {
    "pair": "wrn-10-1/resnet8",
    "method": {"choice": list(METHODS)},
    "alpha": {"float": [0.1, 2.0]},
    "beta": 20,
    "kd": {"temperature": {"float": [1, 20], "log": True}},
    "lr": {"float": [0.02, 0.1], "log": True},
}


def test_a_search_of_three_methods_survives_a_kill_and_confirms_the_best_of_each(tmp_path):
    live = Live(
        tmp_path,
        dataset=few_images(tmp_path),
        budget={"trials": 6, "epochs": 4, "grace_period": 1, "reduction_factor": 2},
        confirm={"best": 1, "seeds": 2, "per_method": True},
        search=SEARCH,
        resources={"concurrent_trials": 1, "cpus_per_trial": 1},
    )
    live.start()
    live.wait_for(running_with_epochs(1))
    live.stop()
    assert live.run("--resume", whole=True) == 0, live.said()
    assert "Traceback" not in live.said()
    folder = SearchFolder(tmp_path / "trials", "small")
    trials = folder.trials()
    explored = [trial for trial in trials if trial.explores]
    assert Counter(trial.method for trial in explored) == dict.fromkeys(METHODS, 2)
    assert [trial.method for trial in explored[:3]] == list(METHODS)
    for trial in explored:
        own = {key for key in trial.values if key in {"alpha", "kd.temperature"}}
        assert own == {"ctkd": {"alpha"}, "kd": {"kd.temperature"}, "none": set()}[trial.method]
    # The best of each, with both fresh seeds; each seed has one stream, whatever the method.
    repeated = Counter((trial.method, trial.seed) for trial in trials if trial.repeats is not None)
    assert repeated == {(method, seed): 1 for method in METHODS for seed in (1, 2)}
    compared = by_method(trials)
    assert {found.method for found in compared} == set(METHODS)
    for found in compared:
        assert found.best.status == FINISHED
        assert found.mean.estimate.n == 2
        assert found.epochs == sum(len(trial.epochs) for trial in explored if trial.method == found.method)
    # One teacher for each of the three seeds, which CTKD follows and whose end is the expert of KD.
    assert len(re.findall(r"^teacher wrn-10-1.*: trained 4 epochs", live.said(), flags=re.MULTILINE)) == 3
    assert "The best trial of each method" in live.said()
    # Logits for KD and maps of three layers for CTKD, in one pass over each of four epochs of three streams.
    entries = list((tmp_path / "trials" / "teachers").glob("maps-*"))
    assert [len(list(entry.glob("*.rec"))) for entry in entries] == [4 * (1 + 3)] * 3
    for seed in range(3):
        own = [epoch for trial in trials if trial.seed == seed for epoch in trial.epochs]
        # What was recorded before the kill is not reported by the epoch that was cut short.
        assert 1 <= sum(epoch.get("recorded_epochs", 0) for epoch in own) <= 4
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db")
    runs = {trial.number: client.get_run(trial.run_id) for trial in trials}
    for trial in trials:
        assert runs[trial.number].data.tags["ctkd.method"] == trial.method
        assert runs[trial.number].data.params["method"] == trial.method
    page = (folder.report / "index.html").read_text()
    assert page.index(">Results<") < page.index(">Methods<") < page.index(">How the search went<")
    assert (folder.report / "methods.png").is_file()
