"""The JSON Schema of a space says what the reader says, as far as it can, and what is kept of it is up to date."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.factories import SHIPPED, SPACES
from support.faulty_spaces import FAULTY
from support.faulty_strategies import FAULTY_STRATEGIES, NUMBERS, OUT_OF_PLACE
from support.inexpressible import INEXPRESSIBLE
from support.layouts import BROKEN_IMAGE
from support.space_texts import EVERY_FORM, HEAD, space

from ctkd_search.config import Jitter, plain
from ctkd_search.distill.methods.base import methods
from ctkd_search.errors import UserError
from ctkd_search.recipe import Recipe
from ctkd_search.space.document import Document, read
from ctkd_search.space.parameters import parameters
from ctkd_search.space.reader import space_of
from ctkd_search.space.schema.document import space_schema
from ctkd_search.space.schema.writing import as_json, schema_text

pytestmark = pytest.mark.usefixtures("own_directory")

SCHEMA = space_schema()
SCHEMA_FILE = SPACES / "space.schema.json"
CHECKER = jsonschema.Draft202012Validator(SCHEMA)
FULL = """\
name: x
seed: 1
dataset: {name: folder, root: images, image_size: 32, channels: 3, skip_broken: true, validation: 0.2, split_seed: 1}
augment:
  crop: 2
  flip: true
  randaugment: {operations: 3, magnitude: 9}
  trivialaugment: false
  jitter: {brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}
  erasing: {probability: 0.25, area: [0.02, 0.3]}
  mixup: 0.2
  cutmix: 1.0
  mix_probability: 0.5
  sampling: null
budget: {trials: 3, epochs: 30, grace_period: 2, reduction_factor: 3, time_budget: 2h}
sampler: {name: tpe, startup_trials: 3, candidates: 5, multivariate: true}
scheduler: {name: hyperband, brackets: 2}
baselines: [kd, at]
confirm: {best: 1, seeds: 2, per_method: true}
objectives: [validation_accuracy, int8_validation_accuracy, params]
metrics: [balanced_accuracy, ece]
limits:
  {max_params: 100000, max_multiply_adds: 100000, max_latency_ms: 1.5, max_int8_latency_ms: 1.5, max_onnx_bytes: 9}
teachers:
  mode: recorded
  seed: 1
  expert: {checkpoint: {wrn-16-2: expert.pt}}
  recipe: {batch_size: 16, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1, milestones: [0.3, 0.5],
           gamma: 0.5, label_smoothing: 0.1, class_weights: [1, 2.5], precision: float32}
  storage: float32
  cache_limit: 1GB
  trajectory_limit: 1GB
train: {nesterov: true, milestones: [0.3], gamma: 0.5, precision: float32}
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-2/wrn-16-1]}
  method: {choice: [ctkd, at, kd]}
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
  temperature: {float: [1, 20], log: true, when: {step_loss: kl}}
  alpha: 0.5
  at: {beta: {choice: [0, 10]}, attention_layers: {subsets: [1, 2], when: {beta: 10}}}
  kd: {temperature: {float: [1, 20], log: true}, weight: 0.5}
  beta: {float: [1, 9], step: 0.5}
  attention_layers: {subsets: [1, 2, 3]}
  lr: {float: [0.1, 0.2]}
  momentum: 0.5
  weight_decay: {choice: [0, 0.1]}
  label_smoothing: {float: [0, 0.2]}
  class_weights: {choice: [none, balanced, effective]}
  effective_beta: {choice: [0.9, 0.99], when: {class_weights: effective}}
  warmup: {choice: [0, 1.5], when: {augment: weak}}
  batch_size: {int: [8, 64], step: 8}
  augment:
    choice: {weak: {}, strong: {erasing: 0.5}}
    when: {pair: wrn-16-2/resnet8}
resources: {gpus_per_trial: 0.5, cpus_per_trial: 1, concurrent_trials: 2, retries: 1, address: auto}
tracking: {uri: "sqlite:///x.db", experiment: e, patience: 5, system_metrics: true}
"""
# Of every type, inside and outside of what may be allowed.
ODD = (None, True, "x", "auto", -1, 0, 1.5, 2.0, [], [0.2, 0.1], {}, {"x": 1}, {"float": [1, 2]}, {"choice": [1, 2]})
OPTIONAL_SECTIONS = sorted(set(SCHEMA["properties"]) - {"name", "dataset", "search"})


@pytest.fixture
def _files(own_directory):
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (Path("images") / folder).mkdir(parents=True)
        for number in range(5):
            (Path("images") / folder / f"{number}.png").write_bytes(BROKEN_IMAGE)
    Path("expert.pt").touch()


def inexpressible(message):
    """The kinds to which a fault belongs that the schema cannot express."""
    return {kind for kind, pieces in INEXPRESSIBLE.items() if any(re.search(piece, message) for piece in pieces)}


def places(content):
    """Where the schema finds something wrong, as tuples of keys; of a key too many or too few, the key itself."""
    for error in CHECKER.iter_errors(content):
        place = tuple(error.absolute_path)
        if error.validator == "required":
            yield from ((*place, key) for key in error.validator_value if key not in error.instance)
        elif error.validator == "additionalProperties":
            yield from ((*place, key) for key in error.instance if key not in error.schema["properties"])
        else:
            yield place


def found(content, place):
    """Whether the schema finds something wrong at a place, or around it, or inside."""
    ours = tuple(map(str, place))
    theirs = [tuple(map(str, other)) for other in places(content)]
    return any(other and (ours[: len(other)] == other or other[: len(ours)] == ours) for other in theirs)


def said(content):
    """What the reader finds wrong with a space."""
    try:
        space_of(content)
    except UserError as error:
        return [line.split(": ", 1)[1] for line in str(error).splitlines()[1:]]
    return []


def inside(value, place=()):
    """Every place in a value, of a list its first item: to the schema, the others are like it."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from inside(inner, (*place, key))


def replaced(content, place, value):
    changed = copy.deepcopy(content)
    into = changed
    for key in place[:-1]:
        into = into[key]
    into[place[-1]] = value
    return changed


def test_the_schema_that_is_shipped_is_the_one_that_the_code_generates():
    renew = "renew it with: ctkd-search schema -o spaces/space.schema.json"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), renew


def test_the_schema_is_valid_and_its_text_is_read_back_whole():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(schema_text()) == SCHEMA
    nested = {"long": ["x" * 70, "y" * 70], "none": [], "deep": {"a": {"b": ["z" * 119]}}, "ä": "\n"}
    assert json.loads(as_json(nested)) == nested
    assert max(map(len, as_json({"a": {"b": list(range(100))}, "c": ["d" * 30] * 9}).splitlines())) < 120


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_is_valid_and_names_its_schema(path):
    assert list(places(read(path).data)) == []
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert path.parent / first.removeprefix("# yaml-language-server: $schema=") == SCHEMA_FILE


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("text", [HEAD + EVERY_FORM, FULL], ids=["every form", "every section"])
def test_a_space_with_all_there_is_is_valid(text):
    content = Document("", text).data
    assert said(content) == []
    assert list(places(content)) == []


STRATEGIES = [([override], NUMBERS) for override, *_ in FAULTY_STRATEGIES] + [row[:2] for row in OUT_OF_PLACE]


def faulty_contents():
    """Every space of the tables of faults."""
    for text in FAULTY.values():
        # The text as a file, because some name it as their checkpoint.
        with pytest.raises(UserError):
            space(text)
        yield Document("", Path("space.yaml").read_text()).data
    for overrides, search in STRATEGIES:
        yield Document("", f"{HEAD}search: {search}\n", overrides).data


def test_every_fault_of_the_tables_is_found_but_those_that_it_cannot_express():
    kinds = set()
    for content in faulty_contents():
        for fault in said(content):
            if not found(content, fault.split()[0].split(".")):
                assert inexpressible(fault), fault
                kinds |= inexpressible(fault)
    # The other kinds stand in no table, but below.
    assert len(kinds) >= 8


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("name=teachers", "name"),
        ("name=a/b", "name"),
        ("search.alpha={float: [0, 1], log: true}", "search.alpha"),
        ("search.alpha={float: [0.1, 1], log: true, step: 0.1}", "search.alpha"),
        ("search.batch_size={int: [8, 64], log: true, step: 8}", "search.batch_size"),
        ("search.step_loss={choice: [kl, mse], when: {step_loss: kl}}", "search.step_loss"),
        ("dataset={name: folder}", "dataset.root"),
        ("dataset={name: digits, extra: true}", "dataset.extra"),
        ("dataset={name: digits, options: {}}", "dataset.options"),
        ("dataset={name: 'my_code:make', root: images}", "dataset.root"),
        ("dataset={name: 'my-code:make'}", "dataset.name"),
    ],
)
def test_schema_and_reader_both_refuse_what_is_in_no_table_of_faults(override, place):
    content = Document("", HEAD + "search: {alpha: {float: [1, 2]}}", [override]).data
    assert any(fault.startswith(place) for fault in said(content))
    assert found(content, place.split("."))


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    "section",
    [
        pytest.param(section, marks=pytest.mark.slow) if section in {"search", "teachers"} else section
        for section in SCHEMA["properties"]
    ],
)
def test_the_schema_refuses_no_right_value_and_every_fault_that_it_can_express(section):
    whole = Document("", FULL).data
    # Without what has nothing to do with it, which would only take time.
    apart = {"name", "dataset", "search", section} | ({"budget"} if section == "scheduler" else set())
    content = {key: value for key, value in whole.items() if key in apart}
    assert said(content) == []
    seen = set()
    for place in [(section,), *((section, *rest) for rest in inside(content[section]))]:
        for value in ODD:
            changed = replaced(content, place, value)
            faults, invalid = said(changed), not CHECKER.is_valid(changed)
            if invalid:
                assert faults != [], (place, value)
            else:
                assert all(inexpressible(fault) for fault in faults), (place, value, faults)
            seen.add(invalid)
    assert seen == {True, False}


def allowed_by_the_reader(place):
    """The keys that the reader names where it meets one that it does not know; None where it wants no mapping."""
    content = yaml.safe_load(HEAD + "search: {alpha: {float: [1, 2]}}")
    into = content
    for key in place[:-1]:
        into = into.setdefault(key, {})
    if place:
        into[place[-1]] = {"nonsense": 1}
    else:
        into["nonsense"] = 1
    dotted = ".".join((*place, "nonsense"))
    for message in said(content):
        if message.startswith(f"{dotted} is not a known key") and "; allowed: " in message:
            return message.partition("; allowed: ")[2].split(", ")
    return None


def mappings(schema):
    """The properties of every mapping that a schema allows, with `$ref` left out."""
    branches = schema.get("anyOf", [schema])
    return [branch["properties"] for branch in branches if branch.get("additionalProperties") is False]


def test_the_schema_knows_exactly_the_keys_that_the_reader_knows():
    waiting, counted = [((), SCHEMA)], 0
    while waiting:
        place, schema = waiting.pop()
        allowed = allowed_by_the_reader(place)
        keys = mappings(schema)
        if place[:1] == ("search",) and len(place) == 2:
            continue  # a form: below
        if place == ("teachers", "storage"):
            continue  # one value, whether text or a mapping
        assert sorted(allowed or []) == sorted(keys[0] if keys else []), place
        counted += len(allowed or [])
        waiting += [((*place, key), inner) for key, inner in (keys[0].items() if keys else ())]
    assert counted > 60


@pytest.mark.parametrize("name", parameters(Recipe()))
def test_the_schema_knows_every_form_of_a_parameter_with_its_keys(name):
    values = {"float": [1, 2], "int": [1, 2], "choice": ["a", "b"], "subsets": [1, 2]}
    schema = SCHEMA["properties"]["search"]["properties"][name]
    known = {branch["required"][0]: set(branch["properties"]) for branch in mappings_of_forms(schema)}
    for form, value in values.items():
        content = yaml.safe_load(HEAD) | {"search": {name: {form: value, "nonsense": 1}}}
        (fault,) = [
            fault for fault in said(content) if "is not a known key" in fault or "must be a constant or" in fault
        ]
        told = fault.partition("; allowed: ")[2].split(", ") if "allowed" in fault else None
        assert (form in known) is (told is not None)
        assert known.get(form) == (set(told) if told else None)
    content = yaml.safe_load(HEAD) | {"search": {name: 1, "lr" if name != "lr" else "alpha": {"float": [1, 2]}}}
    conditions = set(SCHEMA["$defs"]["when"]["properties"])
    content["search"]["lr" if name != "lr" else "alpha"]["when"] = {"nonsense": 1}
    (fault,) = [fault for fault in said(content) if "is not a parameter" in fault]
    assert {key for key in fault.partition("there are: ")[2].split(", ") if "." not in key} == conditions


def mappings_of_forms(schema):
    return [branch for branch in schema["anyOf"] if branch.get("type") == "object"]


def defaults(schema, place=()):
    """Every default in a schema, by its place."""
    if "default" in schema:
        yield place, schema["default"]
    for properties in mappings(schema):
        for key, inner in properties.items():
            yield from defaults(inner, (*place, key))


def reached(chosen, place):
    """What stands at a place of a space when it has been read."""
    strategy = {"sampler", "scheduler", "baselines", "confirm", "objectives", "limits", "metrics"}
    value = chosen.strategy if place[0] in strategy else chosen
    for key in place:
        value = getattr(value, key)
    return plain(value)


def test_a_default_of_the_schema_is_what_the_reader_takes():
    chosen = space("confirm: {}\naugment: {randaugment: {}, erasing: 0.5}\nsearch: {alpha: {float: [1, 2]}}\n")
    # Without any strength it would be refused.
    chosen = dataclasses.replace(chosen, augment=dataclasses.replace(chosen.augment, jitter=Jitter()))
    found = {place: value for place, value in defaults(SCHEMA) if place[0] != "search"}
    assert len(found) > 40
    for place, value in found.items():
        if place in {("sampler",), ("scheduler",)}:
            place = (*place, "name")
        if place == ("budget", "grace_period"):
            continue  # it follows from other settings
        assert reached(chosen, place) == value, place
    # Searched by itself, the learning rate begins at that of the default recipe.
    every = parameters(Recipe(lr=0.2), tuple(methods()))
    searched = {".".join(place[1:]): value for place, value in defaults(SCHEMA) if place[0] == "search"}
    searched = {key: value for key, value in searched.items() if key in every}
    # Which layers both networks have depends on the pair.
    assert searched == {name: plain(item.default) for name, item in every.items() if not item.layers_of_pair}


def test_a_key_has_a_default_where_the_reader_can_do_without_it():
    for section in OPTIONAL_SECTIONS:
        for properties in mappings(SCHEMA["properties"][section]):
            without = {key for key, inner in properties.items() if "default" not in inner and "properties" not in inner}
            # What augment leaves out is the data set's own.
            own = {"crop", "flip", "resized_crop", "trivialaugment", "erasing", "mixup", "cutmix", "mix_probability"}
            own.add("sampling")
            assert without == (own if section == "augment" else set())


def test_every_key_is_described():
    def bare(schema, place):
        for properties in mappings(schema):
            for key, inner in properties.items():
                if not inner.get("description"):
                    yield (*place, key)
                yield from bare(inner, (*place, key))

    assert [place for place in bare(SCHEMA, ()) if place[0] != "search" or len(place) == 2] == []
