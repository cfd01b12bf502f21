"""The command check: what it shows of a space, and what it measures."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.factories import DIGITS, SHIPPED, SPACES

from ctkd_search.records.config_list import published_names, read_published
from ctkd_search.space.reader import read_space

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_check_shows_every_parameter_examples_and_the_cost(call, monkeypatch, path):
    # The largest of them records 27 GB, for which this machine's disk need not have room.
    monkeypatch.setattr("ctkd_search.checks.refusals.free_bytes", lambda _: 10**12)
    code, out, err = call("check", path, "--no-measure")
    assert (code, err) == (0, "")
    space = read_space(path)
    for name, parameter in space.parameters.items():
        row = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert parameter.help in row
        # What is long goes on below.
        parts = str(space.entries[name]).split(" | ") if name in space.entries else ["fixed: "]
        assert parts[0].split(" -> ")[0] in row
        assert all(word in out for part in parts for word in part.split())
    drawn = [line.split()[1] for line in out.splitlines() if re.match(r"  [1-4]  ", line)]
    assert len(drawn) == 4
    assert set(drawn) <= {space.short_pair(pair) for pair in space.pairs()}
    assert f"{space.budget.trials} trials of up to {space.budget.epochs} epochs" in out
    assert [path.name for path in Path.cwd().iterdir()] == ["my-images"]


def test_check_leaves_out_the_pairs_beyond_the_limits_and_refuses_where_none_is_left(call):
    limit = "limits={{max_params: {}}}"
    pairs = "search.pair={choice: [wrn-16-2/resnet8, wrn-16-2/wrn-16-1]}"
    code, out, err = call("check", DIGITS, "--no-measure", "--set", pairs, "--set", limit.format(100_000))
    assert (code, err) == (0, "")
    assert "pair wrn-16-2/wrn-16-1 is left out: wrn-16-1 has " in out
    for command in (["check", "--no-measure"], ["run"]):
        code, out, err = call(command[0], DIGITS, *command[1:], "--set", pairs, "--set", limit.format(1))
        assert code == 2
        assert "no pair is within the limits; raise the limits or add a smaller student" in err
        assert "resnet8 has 77,754 parameters, more than 1" in err
    assert not list(Path().glob("trials/digits/search.json"))


def test_check_shows_conditions_and_the_papers_settings_first(call):
    _, out, _ = call("check", DIGITS, "--no-measure")
    assert re.search(r"^ temperature +1 to 20, log +step_loss is kl +temperature that softens", out, flags=re.MULTILINE)
    assert "\n  1  wrn-16-2/resnet8 kl T=4 a=1 b=60 L1,2,3 lr=0.2\n" in out


def test_check_counts_the_published_configs_that_a_search_may_begin_from(call, tmp_path):
    lists = [read_published(name) for name in published_names()]
    counts = Counter(config.values.get("method", "ctkd") for each in lists for config in each.configs)
    for methods in (["kd"], ["ctkd"], ["kd", "ctkd"], ["pkt"]):
        method = {"choice": methods} if methods[1:] else methods[0]
        search = {"method": method, "lr": {"float": [0.01, 0.3]}}
        space = {"name": "x", "dataset": {"name": "digits"}, "search": search}
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
        code, out, err = call("check", "space.yaml", "--no-measure")
        assert (code, err) == (0, "")
        lines = [line for line in out.splitlines() if line.startswith("earlier searches: ")]
        count = sum(counts[name] for name in methods)
        assert [f"{count} with a method of this space" in line for line in lines] == [True] * (count > 0)


def test_check_counts_what_the_digits_would_cost(call):
    _, out, _ = call("check", DIGITS, "--no-measure", "--set", "budget.time_budget=1h30m")
    assert "24 trials of up to 12 epochs: 288 epochs in all, or about 128 with early stopping" in out
    assert "after epochs 3, 9 about one trial in 3 goes on" in out
    assert "time: at most 1 h 30 min" in out
    assert "teachers, recorded once and replayed to every trial, 12 epochs each: wrn-16-2, wrn-16-1" in out
    _, out, _ = call("check", DIGITS, "--no-measure", "--trials", "5", "--epochs", "2")
    assert "5 trials of up to 2 epochs: 10 epochs in all, or about 10 with early stopping" in out
    assert "ASHA" not in out


def test_check_shows_networks_and_room_without_a_network_built_or_a_step_taken(call):
    _, out, _ = call("check", DIGITS, "--no-measure")
    rows = [line.split() for line in out.splitlines()]
    assert ["resnet8", "student", "77,754", "763,520", "16x8x8,", "32x4x4,", "64x2x2"] in rows
    assert "trajectory: 12 epochs of 1,222 images, 293 kB for each of 2 teachers" in out
    assert "teachers.cache_limit is 20GB" in out
    assert "measuring" not in out


def test_check_shows_which_files_the_user_must_bring(call, tmp_path):
    code, out, _ = call("check", SPACES / "imagenet.yaml", "--no-measure", f"--set=dataset.root={tmp_path}")
    assert code == 0
    assert f"not downloaded yet: ImageNet is not in {tmp_path}: it must contain the directories train and val" in out


def test_check_measures_steps_and_estimates_the_time(call):
    overrides = ("--set", "search.pair=wrn-10-1/resnet8", "--set", "baselines=[kd]", "--set", "budget.time_budget=10s")
    code, out, err = call("check", DIGITS, *overrides, "--concurrent", "1")
    assert (code, err) == (0, "")
    assert "measuring a few steps on this machine, for at most about 10 s (--no-measure leaves it out)" in out
    assert "time, estimated: 1 trial at once" in out
    rows = {line.split("  ")[0].strip() for line in out.splitlines()}
    assert {"teachers", "trials", "baselines", "confirmation", "in all"} <= rows
    assert "budget.time_budget ends it after 10 s, before all trials are done" in out
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("native", [False, True])
def test_check_warns_of_a_precision_that_the_hardware_has_not(call, monkeypatch, native):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: native)
    monkeypatch.setattr("ctkd_search.checks.report.MEASURING", 0.0)
    code, out, _ = call("check", DIGITS, "--set", "train.precision=bfloat16")
    said = "warning: train.precision: bfloat16 is not in this machine's hardware, and takes several times as long"
    assert (code, said in " ".join(out.split())) == (0, not native)
    assert "warning: teachers.recipe.precision" not in out


def test_check_estimates_nothing_for_another_machine(call):
    import torch

    many = str(torch.cuda.device_count() + 1)
    code, out, _ = call("check", DIGITS, "--gpus-per-trial", many)
    assert code == 0
    assert "no time is estimated, because this machine cannot run the space" in out


@pytest.mark.parametrize("key", ["gpus_per_trial", "cpus_per_trial", "concurrent_trials"])
def test_check_reports_without_measuring_that_run_refuses_more_than_there_is(call, key):
    asked = ("--no-measure", "--set", f"resources.{key}=4096")
    code, out, _ = call("check", DIGITS, *asked)
    assert code == 0
    assert f"warning: this machine cannot run the space: resources.{key} is 4096, but " in out
    # Of a cluster that is not joined nothing is known.
    _, out, _ = call("check", DIGITS, *asked, "--set", "resources.address=127.0.0.1:6379")
    assert "refuses" not in out
    assert "4096, but" not in out


def test_check_shows_when_teachers_are_live(call):
    _, out, _ = call("check", DIGITS, "--no-measure", "--set", "teachers.mode=live")
    assert "teachers, live, in every trial, 12 epochs each: wrn-16-2, wrn-16-1" in out


def test_check_reports_nothing_beside_its_tables_where_a_range_is_no_multiple_of_its_step(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, err = call("check", DIGITS, "--no-measure", "--set", "search.momentum={float: [0.5, 0.95], step: 0.1}")
    assert (code, err) == (0, "")


def test_a_large_seed_is_taken_by_check_as_by_a_search(call):
    code, _, err = call("check", DIGITS, "--no-measure", "--set", "seed=202410150930")
    assert (code, err) == (0, "")
