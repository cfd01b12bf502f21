"""JSON Schema (draft 2020-12) of a whole space."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from ctkd_search import data
from ctkd_search.config import DatasetConfig, TeachersConfig
from ctkd_search.fields import Seed, as_schema_pattern
from ctkd_search.metrics import AT_END, METRICS, OBJECTIVES, ON_REQUEST
from ctkd_search.names import NAME, TAKEN_NAMES
from ctkd_search.plugins import REFERENCE
from ctkd_search.recipe import Recipe
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.conflicts import ANY, CONFLICTS
from ctkd_search.space.default_recipe import COURSE, WARM_UP, default_course
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Place
from ctkd_search.space.reader import SECTIONS
from ctkd_search.space.schema.augment import ALTERNATIVE, augment_schema
from ctkd_search.space.schema.forms import (
    Schema,
    attributes,
    dataclass_in,
    described,
    mapping,
    one_of,
    optional,
    section,
)
from ctkd_search.space.schema.parameters import NAMED, pair_schema, search_schema, when_schemas
from ctkd_search.space.sections import COSTS, Budget, Limits
from ctkd_search.space.sections import NAMED as OF_NAME
from ctkd_search.space.strategy import ACCURACY, Strategy

_TEXTS = {
    "train": "The student's recipe, as far as it is not searched; its course is made up of "
    f"{', '.join(f'`{name}`' for name in COURSE)}, given here or searched",
    "search": "What is searched: for each parameter a constant, or a mapping that says how it is drawn",
    "augment": "How the stream varies the images; what is left out is the data set's own",
}


def space_schema() -> Schema:
    """Returns the schema of a space; the reader checks the rules that it cannot express, as on relations of numbers."""
    hints = {**get_type_hints(Space, include_extras=True), **get_type_hints(Strategy, include_extras=True)}
    texts = {**attributes(Space), **attributes(Strategy), **_TEXTS}
    properties = {}
    for key in SECTIONS:
        form = dataclass_in(hints.get(key))
        schema = _OWN[key]() if key in _OWN else optional(section(form)) if form else None
        assert schema is not None, f"the schema does not know the section {key}"
        properties[key] = described(texts[key], schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A space of ctkd-search",
        "description": "Written by ctkd-search schema from the code that reads spaces",
        **mapping(properties, required=["name", "dataset", "search"], allOf=_conflicts()),
        "$defs": {"pair": pair_schema(), **NAMED, ALTERNATIVE: augment_schema(), **when_schemas()},
    }


def _with_course(recipe: Schema) -> Schema:
    """Returns the schema of a recipe, with what is taken where no part of its course is named."""
    course, paper = default_course(Budget().epochs), dataclasses.asdict(Recipe())
    properties = dict(recipe["properties"])
    for name, value in course.items():
        taken = f"{WARM_UP} of the epochs" if name == "warmup" else None
        beside = f"{_shown(paper[name])} where another part of the course is named"
        text = f"{properties[name]['description']}; left out, {taken or _shown(value)}, or {beside}"
        properties[name] = {**properties[name], "description": text, "default": value}
    return {**recipe, "properties": properties}


def _shown(value: Any) -> str:
    return f"`{str(value).lower()}`" if isinstance(value, bool | str) else f"{value:g}"


def _train() -> Schema:
    return _with_course(optional(section(Recipe)))


def _teachers() -> Schema:
    schema = optional(section(TeachersConfig))
    recipe = _with_course(schema["properties"]["recipe"])
    return {**schema, "properties": {**schema["properties"], "recipe": recipe}}


def _name() -> Schema:
    return {"type": "string", "pattern": as_schema_pattern(NAME), "not": {"enum": list(TAKEN_NAMES)}}


def _seed() -> Schema:
    from pydantic import TypeAdapter

    return {**TypeAdapter(Seed).json_schema(), "default": 0}


def _dataset() -> Schema:
    schema = section(DatasetConfig)
    known = [data.describe(name) for name in data.names()]
    own = {"pattern": as_schema_pattern(REFERENCE)}
    names = one_of({dataset.name: dataset.summary for dataset in known})
    yours = described("Your own data set", {"type": "string", **own, "examples": ["package.module:factory"]})
    schema["properties"]["name"] |= {"anyOf": [names, yours]}
    foreign = {key: {"const": None} for key in data.OWN_OPTIONS if key != "options"}
    rules = [{"if": {"properties": {"name": own}, "required": ["name"]}, "then": {"properties": foreign}}]
    for dataset in known:
        foreign = {key: {"const": None} for key in data.OWN_OPTIONS if key not in dataset.options}
        needed = {key: {"not": {"const": None}} for key in dataset.required}
        named = {"properties": {"name": {"const": dataset.name}}, "required": ["name"]}
        rules.append({"if": named, "then": {"properties": {**foreign, **needed}, "required": list(needed)}})
    return {**schema, "allOf": rules}


def _named(form: type, options: Mapping[str, tuple[str, ...]]) -> Schema:
    """Returns the schema of a name, or a mapping with the name and its options."""
    schema = section(form)
    default = schema["properties"]["name"]["default"]
    rules = []
    for name, own in options.items():
        foreign = {key: {"const": None} for key in schema["properties"] if key not in {"name", *own}}
        named: Schema = {"properties": {"name": {"const": name}}}
        rules.append(
            {"if": named if name == default else {**named, "required": ["name"]}, "then": {"properties": foreign}}
        )
    branches = [{"enum": list(options)}, {**schema, "allOf": rules}, {"type": "null"}]
    return {"anyOf": branches, "default": default}


def _several(meanings: Mapping[str, str], **rules: Any) -> Schema:
    return {"type": ["array", "null"], "items": one_of(meanings), "uniqueItems": True, **rules}


def _baselines() -> Schema:
    return _several(BASELINES, default=[])


def _objectives() -> Schema:
    of_costs = attributes(Limits)
    known = {name: f"{metric.help}, on the validation images" for name, metric in OBJECTIVES.items()}
    known |= {name: f"{metric.help}, on the validation images" for name, metric in AT_END.items()}
    known |= {name: of_costs[cost.limit] for name, cost in COSTS.items()}
    return _several(known, minItems=1, contains={"enum": list(OBJECTIVES)}, default=[ACCURACY])


def _metrics() -> Schema:
    return _several({name: METRICS[name].help for name in ON_REQUEST}, default=[])


# Sections that are more than a mapping that fills a dataclass.
_OWN: dict[str, Callable[[], Schema]] = {
    "name": _name,
    "seed": _seed,
    "dataset": _dataset,
    "augment": augment_schema,
    "teachers": _teachers,
    "train": _train,
    **{key: functools.partial(_named, *named) for key, named in OF_NAME.items()},
    "baselines": _baselines,
    "objectives": _objectives,
    "metrics": _metrics,
    "search": search_schema,
}


def _conflicts() -> list[Schema]:
    """Returns the schemas of keys that cannot be combined with others."""
    rules = []
    for conflict in CONFLICTS:
        there: Schema = {"not": {"const": None}} if conflict.value is ANY else {"const": conflict.value}
        there = _at(conflict.other, there, required=True)
        rules.append({"if": there, "then": _at(conflict.place, {"const": None}, required=False)})
    return rules


def _at(place: Place, schema: Schema, required: bool) -> Schema:
    """Returns a schema for the value at a place.

    Args:
        place: The keys that lead there.
        schema: Schema of the value.
        required: Whether it must be there at all.
    """
    for key in reversed(place):
        schema = {"properties": {key: schema}}
        if required:
            schema |= {"type": "object", "required": [key]}
    return schema
