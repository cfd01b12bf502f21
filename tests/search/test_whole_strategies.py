"""Whole searches by other means: several objectives and limits, extended searches, and searches that begin warm."""

import itertools
import json

import pytest
import yaml
from support.here import command
from support.live import SPACE, Live
from support.studies import study_of

from ctkd_search.cache_index import CacheIndex
from ctkd_search.metrics import CLOCKS
from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FEW = {"name": "digits", "validation": 0.8}
SMALL, MIDDLE, LARGE = "wrn-10-1/resnet8", "wrn-10-1/wrn-10-1", "wrn-10-1/resnet20"


def show(directory, name="small"):
    shown = command("show", name, directory=directory)
    assert shown.code == 0, shown.said
    return shown.out


def test_two_objectives_are_searched_among_the_pairs_within_the_limits(tmp_path):
    live = Live(
        tmp_path,
        dataset=FEW,
        budget={"trials": 10, "epochs": 6, "grace_period": 1, "reduction_factor": 2},
        search={**SPACE["search"], "pair": {"choice": [SMALL, MIDDLE, LARGE]}, "beta": {"float": [0.1, 60]}},
        objectives=["validation_loss", "params"],
        metrics=["ece"],
        limits={"max_params": 100_000, "max_latency_ms": 1000.0},
        scheduler={"name": "hyperband", "brackets": 2},
        resources={"concurrent_trials": 1, "cpus_per_trial": 1},
    )
    assert live.run() == 0, live.said()
    costs = json.loads((tmp_path / "trials" / "small" / "search.json").read_text())["costs"]
    assert costs["resnet20"]["params"] > 100_000 > costs["resnet8"]["params"] > 0
    assert 0 < costs["resnet8"]["latency_ms"] < 1000
    assert f"pair {LARGE} is left out: resnet20 has" in live.said()
    trials = SearchFolder(tmp_path / "trials", "small").trials()
    assert len(trials) == 10
    assert {trial.values["pair"] for trial in trials} == {SMALL, MIDDLE}
    study = study_of(tmp_path / "trials", "small")
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    for trial in trials:
        assert trial.objective == "validation_loss"
        assert all(0 <= epoch["validation_ece"] <= 1 for epoch in trial.epochs)
        told = study.trials[trial.optuna]
        assert told.state.name == {"finished": "COMPLETE", "stopped early": "PRUNED"}[trial.status]
        if trial.status == "finished":
            assert told.values == [trial.value, costs[trial.values["pair"].split("/")[1]]["params"]]
    front = show(tmp_path).partition("Pareto front")[2].splitlines()
    best = [str(trial.number) for trial in study.best_trials]
    numbers = [line.split()[0] for line in front if line.split()[:1] and line.split()[0].isdigit()]
    assert sorted(numbers) == sorted({str(trial.number) for trial in trials if str(trial.optuna) in best}), (
        front,
        best,
    )


def test_the_best_of_all_go_on_after_a_constant_number_of_epochs_as_if_they_had_never_been_paused(tmp_path):
    sections = {"dataset": FEW, "sampler": "random", "resources": {"concurrent_trials": 1, "cpus_per_trial": 1}}
    budget = {"trials": 3, "epochs": 4}
    paused = Live(
        tmp_path,
        *("--name", "constant"),
        **sections,
        budget={**budget, "grace_period": 2},
        scheduler={"name": "constant", "best": 1},
    )
    assert paused.run() == 0, paused.said()
    assert paused.said().count("paused: after epoch 2") >= 1
    trials = SearchFolder(tmp_path / "trials", "constant").trials()
    assert sorted((trial.status, len(trial.epochs)) for trial in trials) == [
        ("finished", 4),
        ("stopped early", 2),
        ("stopped early", 2),
    ]
    chosen = min(trials, key=lambda trial: trial.epochs[1]["averaged_validation_loss"])
    assert chosen.status == "finished"
    study = study_of(tmp_path / "trials", "constant")
    states = {trial.number: study.trials[trial.optuna].state.name for trial in trials}
    assert states == {trial.number: "COMPLETE" if trial is chosen else "PRUNED" for trial in trials}
    never = Live(tmp_path, "--name", "never", **sections, budget=budget, scheduler="none")
    assert never.run() == 0, never.said()
    same = SearchFolder(tmp_path / "trials", "never").trials()[chosen.number - 1]
    assert same.values == chosen.values
    assert [trained(epoch) for epoch in same.epochs] == [trained(epoch) for epoch in chosen.epochs]


def trained(epoch):
    """What an epoch came to, without what the machine and the other trials decide."""
    return {key: value for key, value in epoch.items() if key not in (*CLOCKS, "at") and "averaged" not in key}


def test_limits_that_leave_no_pair_are_reported_before_anything_is_trained(tmp_path):
    live = Live(tmp_path, limits={"max_params": 10})
    assert live.run() == 2
    assert "no pair is within the limits" in live.said()
    assert "resnet8 has" in live.said()
    assert not (tmp_path / "trials" / "teachers").exists()


def test_a_finished_search_is_extended_and_lends_its_results_to_another(tmp_path):
    words = ("--epochs", "2", "--set", "budget.grace_period=2", "--concurrent", "1")
    augment = {"choice": {"flat": {}, "mixed": {"mixup": 0.2, "erasing": 0.5}}}
    search = {**SPACE["search"], "augment": augment}
    live = Live(tmp_path, *words, "--trials", "3", dataset=FEW, search=search)
    assert live.run() == 0, live.said()
    first = SearchFolder(tmp_path / "trials", "small").trials()
    assert live.run() == 2
    assert "has finished" in live.said()
    assert live.run("--trials", "5") == 0, live.said()
    extended = SearchFolder(tmp_path / "trials", "small").trials()
    assert len(extended) == 5
    assert extended[:3] == first
    assert_augmented(tmp_path, extended)
    assert_ends_without_a_student(tmp_path, live)
    # The learning rate reaches elsewhere, and one of the augmentations is new, the other under another name.
    augment = {"choice": {"cut": {"cutmix": 1.0}, "as-before": {"mixup": 0.2, "erasing": 0.5}}}
    wider = {**SPACE["search"], "lr": {"float": [0.02, 0.2], "log": True}, "augment": augment}
    other = Live(tmp_path, *words, "--name", "wider", dataset=FEW, search=wider)
    assert other.run("--trials", "2", "--warm-start", "small") == 0, other.said()
    fitting = [trial for trial in extended if trial.values["lr"] >= 0.02 and trial.values["augment"] == "mixed"]
    assert fitting
    said = f"warm start from 'small': {len(fitting)} of its 5 trials are in this space, with their results"
    assert said in other.said()
    study = study_of(tmp_path / "trials", "wider")
    assert [trial.user_attrs.get("taken_from") for trial in study.trials] == [
        *(f"small/{trial.number}" for trial in fitting),
        None,
        None,
    ]
    assert len(SearchFolder(tmp_path / "trials", "wider").trials()) == 2
    assert_begun_from_configs(tmp_path, other)


def assert_ends_without_a_student(directory, live):
    """The states are lost before the student is registered: the search ends, and names the way to train it again."""
    folder = SearchFolder(directory / "trials", "small")
    for path in folder.states.glob("*.pt"):
        path.unlink()
    record = folder.search()
    record.finished = False
    folder.write(record)
    assert live.run("--trials", "5", "--resume") == 0, live.said()
    assert "no student is registered: that of trial " in live.said()
    assert "ctkd-search export small -o small-best.yaml && ctkd-search train small-best.yaml" in live.said()
    assert (folder.search().finished, folder.search().model) == (True, None)


def assert_begun_from_configs(directory, other):
    """With another number of epochs, no result counts; the best configs are tried before the default settings."""
    words = ("--trials", "4", "--epochs", "3", "--warm-start", "small", "--warm-start", "wider")
    assert other.run(*words, "--name", "third") == 0, other.said()
    assert "warm start from 'small': budget.epochs" in other.said()
    folder = SearchFolder(directory / "trials", "third")
    starts, trials = folder.search().warm_start, folder.trials()
    # The best one of each, then the second ones.
    turns = [config for turn in itertools.zip_longest(*(start.configs for start in starts)) for config in turn]
    configs = [config for config in turns if config and not config.known]
    assert [start.asked for start in starts] == ["small", "wider"]
    assert len(configs) >= 4
    assert [trial.stored for trial in trials] == [config.stored for config in configs][:4]
    study = study_of(directory / "trials", "third")
    assert not any("taken_from" in trial.user_attrs for trial in study.trials)
    shown = show(directory, "third")
    assert "began from 'small': " in other.said()  # at the end of the search too
    assert f"began from 'small': trial {configs[0].trial} there ({configs[0].reached}) is trial 1 here, " in shown
    assert "the best trial, " in shown
    assert command("report", "third", directory=directory).code == 0
    assert "Began from &#39;small&#39;" in (folder.report / "index.html").read_text(encoding="utf-8")
    assert other.run(*words, "--name", "third", "--resume") == 2
    assert "has finished" in other.said()


def assert_augmented(directory, trials):
    """Both augmentations are tried, each with an expert of its own, and the config of a trial is one of them."""
    assert trials[0].values["augment"] == "flat"
    assert {trial.values["augment"] for trial in trials} == {"flat", "mixed"}
    assert set(SearchFolder(directory / "trials", "small").search().experts) == {
        "wrn-10-1 with flat",
        "wrn-10-1 with mixed",
    }
    listed = CacheIndex(directory / "trials" / "teachers").all()
    assert sorted(entry.about["kind"] for entry in listed) == ["maps", "maps", "teacher", "teacher"]
    assert [("mixup" in entry.about["augment"]) for entry in listed if entry.about["kind"] == "maps"].count(True) == 1
    mixed = next(trial for trial in trials if trial.values["augment"] == "mixed")
    exported = command("export", "small", "--trial", str(mixed.number), directory=directory)
    config = yaml.safe_load(exported.out)
    assert config["augment"]["mixup"] == 0.2
    assert config["augment"]["erasing"] == {"probability": 0.5, "area": [0.02, 0.33]}


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc"])
def test_every_sampler_finishes_its_trials_without_a_warning(tmp_path, sampler, recwarn):
    space = {"pair": SMALL, "lr": {"float": [0.01, 0.1], "log": True}, "beta": {"float": [0.1, 60], "log": True}}
    space |= {"attention_layers": {"subsets": [1, 2, 3]}}
    words = ("--concurrent", "1", "--epochs", "1", "--trials", "14")
    live = Live(tmp_path, *words, dataset=FEW, search=space, sampler=sampler, scheduler="none", budget={})
    assert live.run() == 0, live.said()
    assert "Traceback" not in live.said()
    # As Python shows them; those to developers it does not.
    assert [str(w.message) for w in recwarn if not issubclass(w.category, DeprecationWarning)] == []
    trials = SearchFolder(tmp_path / "trials", "small").trials()
    assert len({json.dumps(trial.values) for trial in trials}) == 14
