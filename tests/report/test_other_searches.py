"""The reports of searches that lack something, or have what others lack."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.page import Page
from support.small_search import CPU, SmallSearch

from ctkd_search import data
from ctkd_search.data import Images
from ctkd_search.data.stream import Normalise
from ctkd_search.distill import losses
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.cost import costs
from ctkd_search.pairs import split_pair
from ctkd_search.records.warm_start import TriedConfig, WarmStart
from ctkd_search.report import attention
from ctkd_search.report.attention import AFTER, EXPERT
from ctkd_search.report.page import write_report

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_thread")]

LR = {"float": [0.01, 0.2], "log": True}


@pytest.fixture
def bare(tmp_path):
    """A search without baselines and confirmation, and without attention."""
    changes = {"baselines": None, "confirm": None, "scheduler": "none"}
    searched = {"pair": "wrn-10-1/resnet8", "beta": 0, "lr": LR}
    search = SmallSearch(tmp_path, budget={"trials": 1, "epochs": 1}, search=searched, **changes)
    search.explore(1)
    return search


def test_a_search_without_baselines_confirmation_and_attention(bare):
    found = Page(write_report(bare.root, "small"))
    assert "it has not been confirmed with fresh seeds." in found.said
    assert "No config has been confirmed with fresh seeds" in found.said
    assert "time budget" not in found.said
    assert "There are no baselines to compare with." in found.said
    assert "The curve of the student alone is left out" in found.said
    assert "Attention maps of the winner are left out: its loss does not use the expert's attention maps." in found.said
    assert "Parameter importances are left out: 1 trial reached epoch 1" in found.said
    assert "Parallel coordinates are left out" in found.said
    assert found.files() == ["best-so-far", "cost", "learning-curves", "teaching"]


def test_a_search_whose_confirmation_had_no_time_says_how_to_go_on(bare):
    line = f"because the time budget ended before that; raise it, or go on with as much again: {bare.record.again}"
    content = {**bare.record.space, "confirm": {"best": 1, "seeds": 2}}
    for finished in (False, True):
        bare.folder.write(replace(bare.record, space=content, finished=finished))
        assert (line in Page(write_report(bare.root, "small")).said) is finished


def test_a_search_that_began_from_earlier_ones_says_what_they_brought(bare):
    assert "Began from" not in Page(write_report(bare.root, "small")).said
    (trial,) = (trial for trial in bare.folder.trials() if trial.explores)
    starts = [
        WarmStart("old", "old", settled=True, configs=[TriedConfig(7, "90.00 %", trial.stored, ["pair"])]),
        WarmStart("more", "more", settled=True, taken=2, there=3),
    ]
    bare.folder.write(replace(bare.record, warm_start=starts))
    said = Page(write_report(bare.root, "small")).said
    became = f"is trial {trial.number} here, 1 of the 1 that finished ({trial.reached})"
    assert f"Began from 'old': trial 7 there (90.00 %) {became}." in said
    assert "Began from 'more': with the results of 2 of its 3 trials." in said
    assert f"The best trial, {trial.number}, is one of these." in said
    assert "from old, more" in said


def test_live_teachers_are_compared_with_nothing(bare):
    raw = copy.deepcopy(bare.record.space)
    raw["teachers"]["mode"] = "live"
    bare.folder.write(replace(bare.record, space=raw))
    found = Page(write_report(bare.root, "small"))
    assert "Teachers were live" in found.said
    assert "cost" not in found.files()


def test_several_objectives_have_a_pareto_front(tmp_path):
    search = SmallSearch(
        tmp_path,
        objectives=["validation_accuracy", "params", "multiply_adds"],
        search={"pair": {"choice": ["wrn-10-1/resnet8", "wrn-10-1/wrn-10-1"]}, "lr": LR},
        baselines=None,
        confirm=None,
    )
    for pair in ("wrn-10-1/resnet8", "wrn-10-1/wrn-10-1", "wrn-10-1/resnet8"):
        search.explore(pair=pair, lr=0.05 + 0.05 * len(search.trials))
    search.record.costs = {name: costs(name, search.splits.geometry, CPU) for name in ("resnet8", "wrn-10-1")}
    search.folder.write(search.record)
    found = Page(write_report(search.root, "small"))
    assert {"pareto-params", "pareto-multiply_adds"} <= set(found.files())
    assert "Pareto front: no other trial is better in everything." in found.said
    # The most accurate trial is on the front, whatever it costs.
    alts = [image["alt"] for image in found.images]
    best = max(trial.accuracy for trial in search.trials)
    told = [alt for alt in alts if f"On the front: {100 * best:.2f} % at " in alt]
    assert {"over parameters of the student" in alt for alt in told} == {True, False}
    assert all("a number is that of its trial" in alt for alt in told)
    student = split_pair(max(search.trials, key=lambda trial: trial.accuracy).values["pair"]).student
    assert f"{search.record.costs[student]['params']:,.0f}" in found.said


HOSTILE = ["<img src=x onerror=alert(1)>", "$\\frac{a & b$", "{{ 7 * 7 }}"]


def test_whatever_a_class_is_called_it_is_text(tmp_path):
    draw = np.random.default_rng(0)
    for name in HOSTILE:
        for split in ("train", "val", "test"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(12):
                pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    images = {"name": "folder", "root": str(tmp_path / "images"), "image_size": 8, "channels": 3}
    search = SmallSearch(tmp_path, dataset=images, baselines=None, confirm=None)
    search.explore()
    found = Page(write_report(search.root, "small"))
    assert sorted(data.load_train(search.space.dataset).classes) == sorted(HOSTILE)
    assert all("onerror" not in attributes for _, attributes in found.tags)
    assert "<img src=x" not in found.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in found.text
    assert "{{ 7 * 7 }}" in found.said
    assert "attention" in found.files()
    assert len(found.pictures()) == len(found.files())


@pytest.mark.parametrize("pair", ["wrn-10-1/shufflenetv2", "resnet8/vgg8", "vgg8/resnet8"])
def test_maps_of_two_sizes_are_shown_at_the_smaller_as_the_loss_compares_them(pair):
    geometry = Geometry(10, 1, 8)
    expert, student = (build(name, geometry, seed=0).eval() for name in pair.split("/"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    normalise = Normalise((100.0,), (50.0,))
    layers = (1, 2, 3)
    found = attention._maps(layers, [expert], (student, student), Images(pixels, np.zeros(5, int)), normalise)
    with torch.no_grad():
        inputs = normalise(torch.tensor(pixels))
        features, seen = student(inputs)[1], expert(inputs)[1]
    for layer in layers:
        own, theirs = found[layer, AFTER], found[layer, EXPERT]
        assert own.shape == theirs.shape
        sizes = {seen[layer - 1].shape[2], features[layer - 1].shape[2]}
        assert own.shape[1:] == (min(sizes), min(sizes))
        loss = losses.attention(features[layer - 1], losses.attention_map(seen[layer - 1]))
        assert ((own - theirs) ** 2).mean() == pytest.approx(loss.item(), rel=1e-4)
