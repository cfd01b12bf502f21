"""Spaces with which something is wrong: what is refused, and at which line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.faulty_spaces import FAULTY, FIVE_CLASSES, noted
from support.layouts import BROKEN_IMAGE
from support.space_texts import HEAD, SEARCH, space

from ctkd_search.errors import UserError
from ctkd_search.models import registry
from ctkd_search.recipe import Recipe
from ctkd_search.space.document import Document

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.mark.parametrize("text", FAULTY.values(), ids=FAULTY)
def test_every_fault_is_found_at_its_line_and_none_besides(text):
    assert_refused(text)


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ("{a: 2024-01-01}", ".a", "a list or a mapping, but got 2024-01-01; put it in quotes"),
        ("{a: [1, {b: 2024-01-01 10:00:00}]}", ".a.1.b", "a mapping, but got 2024-01-01 10:00:00; put it in quotes"),
        ("{a: .nan}", ".a", "must be text, a finite number, true, false, null, a list or a mapping, but got nan"),
        ("{a: {b: -.inf}}", ".a.b", "a mapping, but got -inf"),
        ("{a: !!set {b}}", ".a", "a mapping, but got {'b'}"),
        ("{0: cat}", "", "has the key 0, which is no text; put it in quotes"),
        ("{a: {yes: cat}}", ".a", "has the key True, which is no text; put it in quotes"),
        ("{a: {2024-01-01: 1}}", ".a", "has the key 2024-01-01, which is no text; put it in quotes"),
    ],
)
@pytest.mark.parametrize(
    "section", ["dataset: {name: 'users_own:make', options: %s}", "train: {optimizer_options: %s}"]
)
def test_options_that_a_record_cannot_keep_are_refused_in_one_line(section, options, place, message):
    with pytest.raises(UserError) as caught:
        space(f"name: x\n{section % options}\n{SEARCH}")
    (line,) = (line for line in str(caught.value).splitlines() if "options" in line)
    key = "dataset.options" if "dataset" in section else "train.optimizer_options"
    assert re.match(rf"  line \d: {key}{place} ", line)
    assert line.endswith(message)


def test_options_may_be_whatever_a_record_keeps():
    options = {"text": "", "number": [1, -2.5, 10**30], "truth": False, "none": None, "more": {"a": {}, "b": []}}
    document = Document("", f"{HEAD}{SEARCH}", [f"train.optimizer_options={json.dumps(options)}"])
    assert document.section("train", Recipe, Recipe()).optimizer_options == options
    assert document.problems == []


def test_five_guesses_of_five_classes_say_nothing():
    for split in ("train", "test"):
        for name in "abcde":
            (Path(split) / name).mkdir(parents=True)
            for number in range(2):
                (Path(split) / name / f"{number}.png").write_bytes(BROKEN_IMAGE)
    assert_refused(FIVE_CLASSES)


def assert_refused(text):
    """That the reader finds what is noted in a text, and nothing besides."""
    with pytest.raises(UserError) as caught:
        space(text)
    lines = re.findall(r"^  line (\d+): (\S+) (.*)$", str(caught.value), flags=re.MULTILINE)
    found = sorted((int(line), key, message) for line, key, message in lines)
    expected = sorted(noted(Path("space.yaml").read_text()), key=lambda note: note[:2])
    assert [fault[:2] for fault in found] == [note[:2] for note in expected]
    messages = " ".join(message for *_, message in found)
    assert [fragment for *_, fragment in expected if fragment not in messages] == []
    assert str(caught.value).startswith(f"space.yaml has {len(expected)} error")


WITH_MAPS = "search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-2/halving2]}, attention_layers: %s, beta: %s}"


@pytest.fixture
def _halving_nets(monkeypatch):
    """Architectures halvingN, for this test alone: N stages, each of which halves the image, the first one too."""
    family = registry.Family(
        re.compile(r"halving(\d)"),
        "halvingN",
        (),
        lambda match: tuple(registry.Tap(8, 2**stage) for stage in range(1, 1 + int(match[1]))),
        lambda match, geometry: pytest.fail("nothing is built here"),
    )
    families = (*registry.families(), family)
    monkeypatch.setattr(registry, "families", lambda: families)


@pytest.mark.usefixtures("_halving_nets")
@pytest.mark.parametrize(
    ("layers", "beta", "fragment"),
    [
        ("[1, 2, 4]", "10", "wrn-16-2/resnet8: wrn-16-2 has no layer 4; it has 1,2,3"),
        ("{subsets: [2, 3]}", "{float: [0, 1]}", "wrn-16-2/halving2: halving2 has no layer 3; it has 1,2"),
        ("[3]", "{float: [0, 1]}", "wrn-16-2/halving2: halving2 has no layer 3; it has 1,2"),
    ],
)
def test_layers_that_a_network_does_not_have_are_refused(layers, beta, fragment):
    with pytest.raises(UserError, match=r"space\.yaml has \d error") as caught:
        space(WITH_MAPS % (layers, beta))
    assert f"line 3: search.pair {fragment}" in str(caught.value)


@pytest.mark.usefixtures("_halving_nets")
def test_layers_need_not_be_there_where_they_are_not_compared_and_maps_may_differ_in_size():
    space("search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-2/halving2]}, beta: 0}")
    space("search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-2/halving2]}, attention_layers: {subsets: [1, 2]}}")
    layers = "attention_layers: {subsets: [1, 2], when: {pair: halving2/halving2}}"
    space(f"search: {{pair: {{choice: [wrn-16-2/resnet8, halving2/halving2]}}, {layers}}}")


def test_nesterov_without_momentum_is_refused():
    for recipe in ("train: {nesterov: true, momentum: 0}", "teachers: {recipe: {nesterov: true, momentum: 0}}"):
        with pytest.raises(UserError, match="nesterov"):
            space(f"{recipe}\n{SEARCH}")
