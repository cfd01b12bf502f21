"""JSON Schema of what a space searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctkd_search.config import Range, Recipe, as_schema_pattern, plain
from ctkd_search.distill.methods.base import Parameter
from ctkd_search.distributions import FORMS, FORMS_OF_KIND, OPTIONS
from ctkd_search.models.names import OWN_CODE_PATTERN, PATTERN
from ctkd_search.models.registry import families, forms
from ctkd_search.pairs import ARROW
from ctkd_search.schema.forms import Schema, described, mapping, optional
from ctkd_search.space import PAIR, parameters

# Definitions of their own, because they stand in many places.
_PAIR = {"$ref": "#/$defs/pair"}
_WHEN = {"$ref": "#/$defs/when"}


def search_schema() -> Schema:
    """The schema of the section ``search``."""
    known = parameters(Recipe())
    properties = {name: _entry(parameter) for name, parameter in known.items()}
    return mapping(properties, minProperties=1, allOf=_effects(known))


def when_schema() -> Schema:
    """The schema of a condition."""
    values = {name: _condition(parameter) for name, parameter in parameters(Recipe()).items()}
    return described(OPTIONS["when"], optional(mapping(values, minProperties=1)))


def pair_schema() -> Schema:
    """The schema of a pair. Which numbers make a network the reader knows."""
    known = "|".join(as_schema_pattern(family.pattern)[1:-1] for family in families())
    slashless = rf"{known}|{as_schema_pattern(OWN_CODE_PATTERN)[1:-1]}"
    name = rf"{known}|{as_schema_pattern(PATTERN)[1:-1]}"
    pattern = rf"^\s*(({slashless})\s*/\s*({slashless})|({name})\s*{ARROW}\s*({name}))\s*$"
    rule = {"type": "string", "pattern": pattern, "examples": [PAIR.default]}
    return described(f"TEACHER/STUDENT or TEACHER {ARROW} STUDENT, each {'; '.join(forms())}", rule)


def constant(parameter: Parameter) -> Schema:
    """The schema of one value of a parameter."""
    if parameter.kind in {"float", "int"}:
        bounds = parameter.range.as_schema() if parameter.range else {}
        return {"type": "number" if parameter.kind == "float" else "integer", **bounds}
    if parameter.kind == "choice":
        return {"enum": list(parameter.choices)}
    if parameter.kind == "pair":
        return _PAIR
    assert parameter.kind == "layers", parameter.kind
    return {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "uniqueItems": True}


def _entry(parameter: Parameter) -> Schema:
    forms = [_form(parameter, form) for form in FORMS_OF_KIND[parameter.kind]]
    text = f"{parameter.help}; {parameter.note}" if parameter.note else parameter.help
    alone = described("for every trial", constant(parameter))
    return described(text, {"anyOf": [alone, *forms], "default": plain(parameter.default)})


def _form(parameter: Parameter, form: str) -> Schema:
    value = constant(parameter)
    rules: Schema = {"required": [form]}
    if form in {"float", "int"}:
        listed = {"type": "array", "items": value, "minItems": 2, "maxItems": 2}
        # Of a logarithm, both ends must be above zero, and a step has no place in it.
        rules["if"] = {"properties": {"log": {"const": True}}, "required": ["log"]}
        rules["then"] = {"properties": {form: {"items": {"exclusiveMinimum": 0}}, "step": {"const": None}}}
    elif form == "choice":
        listed = {"type": "array", "items": value, "minItems": 2, "uniqueItems": True}
    else:
        listed = {**value, "minItems": 2}
    options = {
        "log": {"type": "boolean", "default": False},
        "step": {"type": ["integer" if form == "int" else "number", "null"], "exclusiveMinimum": 0},
    }
    keys = {
        key: listed if key == form else _own_when(parameter) if key == "when" else described(OPTIONS[key], options[key])
        for key in FORMS[form].keys
    }
    return described(f"{FORMS[form].example}: {FORMS[form].help}", mapping(keys, **rules))


def _own_when(parameter: Parameter) -> Schema:
    """A condition of this parameter, which cannot name the parameter itself."""
    return {**_WHEN, "properties": {parameter.name: False}}


def _condition(parameter: Parameter) -> Schema:
    value = constant(parameter)
    if parameter.kind == "layers":
        # As tables show them, because a list holds alternatives.
        value = {"type": "string", "pattern": r"^\d+(,\d+)*$"}
    return _or_several(value)


def _or_several(value: Mapping[str, Any]) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _effects(known: Mapping[str, Parameter]) -> list[Schema]:
    """What has no effect, as far as it can be said of values that are listed."""
    rules: list[Schema] = []
    for name, parameter in known.items():
        for other, allowed in parameter.only_with.items():
            alive = _among(allowed)
            constant_dead = _having({other: {"not": {"anyOf": [alive, {"type": "object"}]}}})
            rules.append({"if": constant_dead, "then": {"properties": {name: False}}})
            choice_dead = _having({"choice": {"contains": {"not": alive}}})
            only_there = _having({"when": _having({other: _or_several(alive)})})
            searched = _having({other: choice_dead, name: {"type": "object"}})
            rules.append({"if": searched, "then": {"properties": {name: only_there}}})
    return rules


def _among(allowed: tuple[Any, ...] | Range) -> Schema:
    """The schema of a value that is one of those allowed, or in the range allowed."""
    if isinstance(allowed, Range):
        return {"type": "number", **allowed.as_schema()}
    return {"enum": list(allowed)}


def _having(properties: Mapping[str, Any]) -> Schema:
    """The schema of a mapping that has these keys, and perhaps others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}
