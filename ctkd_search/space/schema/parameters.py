"""JSON Schema of the section ``search``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ctkd_search.config import plain
from ctkd_search.distill.methods.base import Parameter, methods
from ctkd_search.fields import Range, as_schema_pattern
from ctkd_search.models.names import OWN_CODE_PATTERN, PATTERN
from ctkd_search.models.registry import families, forms
from ctkd_search.names import NAME
from ctkd_search.pairs import ARROW
from ctkd_search.plugins import REFERENCE
from ctkd_search.recipe import OPTIMIZERS, Recipe
from ctkd_search.space.default_recipe import LR
from ctkd_search.space.distributions import FORMS, FORMS_OF_KIND, OPTIONS
from ctkd_search.space.parameters import AUGMENT, CTKD, METHOD, PAIR, key_of, parameters
from ctkd_search.space.schema.augment import alternatives_schema
from ctkd_search.space.schema.forms import Schema, described, mapping, optional
from ctkd_search.space.search_section import nested_methods

# Separate definitions, because they are used in many places.
_PAIR = {"$ref": "#/$defs/pair"}
_WHEN = "when"


def search_schema() -> Schema:
    """Returns the schema of the section ``search``."""
    # Searched alone, it begins at that of the default recipe; all others are parts of a course, or are in none.
    known = parameters(Recipe(lr=LR))
    properties = {name: _entry(parameter, name in _own(CTKD)) for name, parameter in known.items()}
    properties[METHOD.name] = _method()
    condition = {"$ref": f"#/$defs/{_WHEN}", "properties": {AUGMENT: False}}
    properties[AUGMENT] = alternatives_schema(condition)
    properties |= {name: _section(name) for name in nested_methods()}
    # The parameters of a method of the user's own are known once its code is read.
    own = {as_schema_pattern(REFERENCE): described("What a method of your own varies", {"type": "object"})}
    rules = [*_effects(known), *_chosen()]
    return mapping(properties, minProperties=1, allOf=rules, patternProperties=own)


def when_schemas() -> dict[str, Schema]:
    """Returns the schemas of a condition, by the name of their definition: those under a method have its parameters."""
    beside = {name: _condition(parameter) for name, parameter in parameters(Recipe()).items()}
    # An alternative of the augmentation, where it is searched.
    augment = {f"^{AUGMENT}$": _or_several({"type": "string", "pattern": as_schema_pattern(NAME)})}
    own_code: dict[str, Schema] = {f"{as_schema_pattern(REFERENCE).removesuffix('$')}[.][^.]+$": {}}
    recipe = {name: rule for name, rule in beside.items() if name not in _own(CTKD)}
    prefixed = {name: _prefixed(name) for name in nested_methods()}
    every = {pattern: rule for rules in prefixed.values() for pattern, rule in rules.items()}
    found = {_WHEN: mapping(beside, patternProperties={**augment, **every, **own_code}, minProperties=1)}
    for name, rules in prefixed.items():
        # Conditions of a method's parameters name the recipe's and its own, which other methods' trials do not have.
        own = recipe | _conditions(name)
        found[_when_of(name)] = mapping(own, patternProperties={**augment, **rules}, minProperties=1)
    return {name: described(OPTIONS["when"], optional(rule)) for name, rule in found.items()}


def _prefixed(method: str) -> dict[str, Schema]:
    """Returns the conditions on a method's parameters, by patterns of their keys with its name."""
    return {f"^{re.escape(key_of(method, name))}$": rule for name, rule in _conditions(method).items()}


def _when_of(method: str) -> str:
    return f"{_WHEN}-{method}"


def _own(method: str) -> dict[str, Parameter]:
    return {item.name: item for item in methods()[method].parameters}


def _conditions(method: str) -> dict[str, Schema]:
    return {name: _condition(parameter) for name, parameter in _own(method).items()}


def _method() -> Schema:
    """Returns the schema of the method, which has no condition."""
    schema = _entry(METHOD, False)
    alone, choice = schema["anyOf"]
    choice["properties"]["when"] = described("No method stands under a condition", {"type": "null"})
    return {**schema, "anyOf": [alone, choice]}


def _section(name: str) -> Schema:
    """Returns the schema of a method's parameters, under its name."""
    own = _own(name)
    entries = {key: _entry(parameter, True, _when_of(name)) for key, parameter in own.items()}
    text = f"What the method {name} varies ({methods()[name].summary})"
    rules = _effects(own)
    return described(text, mapping(entries, minProperties=1, **({"allOf": rules} if rules else {})))


def _chosen() -> list[Schema]:
    """Returns the rules that a method's parameters need the method to be chosen; CTKD is chosen by default."""
    rules = []
    for name in (CTKD, *nested_methods()):
        keys = _own(CTKD) if name == CTKD else (name,)
        among = {"anyOf": [{"const": name}, _having({"choice": {"contains": {"const": name}}})]}
        there = _having({METHOD.name: among})
        absent = {"not": there}
        if name == CTKD:
            absent = _having({METHOD.name: {"not": among}})
        rules.append({"if": absent, "then": {"properties": dict.fromkeys(keys, False)}})
    return rules


def pair_schema() -> Schema:
    """Returns the schema of a pair. The reader checks which numbers describe a network."""
    known = "|".join(as_schema_pattern(family.pattern)[1:-1] for family in families())
    slashless = rf"{known}|{as_schema_pattern(OWN_CODE_PATTERN)[1:-1]}"
    name = rf"{known}|{as_schema_pattern(PATTERN)[1:-1]}"
    pattern = rf"^\s*(({slashless})\s*/\s*({slashless})|({name})\s*{ARROW}\s*({name}))\s*$"
    rule = {"type": "string", "pattern": pattern, "examples": [PAIR.default]}
    return described(f"TEACHER/STUDENT or TEACHER {ARROW} STUDENT, each {'; '.join(forms())}", rule)


def _method_name() -> Schema:
    own = described("A method of your own", {"type": "string", "pattern": as_schema_pattern(REFERENCE)})
    return {"anyOf": [{"enum": list(METHOD.choices)}, own]}


# Values of parameters with definitions of their own, because they are long and used in many places.
NAMED: dict[str, Schema] = {METHOD.name: _method_name(), "optimizer": {"enum": list(OPTIMIZERS)}}


def constant(parameter: Parameter) -> Schema:
    """Returns the schema of one value of a parameter."""
    if parameter.kind in {"float", "int"}:
        bounds = parameter.range.as_schema() if parameter.range else {}
        return {"type": "number" if parameter.kind == "float" else "integer", **bounds}
    if parameter.name in NAMED:
        return {"$ref": f"#/$defs/{parameter.name}"}
    if parameter.kind == "choice":
        return {"enum": list(parameter.choices)}
    if parameter.kind == "pair":
        return _PAIR
    assert parameter.kind == "layers", parameter.kind
    return {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "uniqueItems": True}


def _entry(parameter: Parameter, of_method: bool, when: str = _WHEN) -> Schema:
    """Returns the schema of the entry of a parameter.

    Args:
        parameter: The parameter.
        of_method: Whether it belongs to a method, so that no condition may name the method again.
        when: The definition of a condition.
    """
    # A condition cannot name the parameter itself.
    foreign = [parameter.name, *([METHOD.name] if of_method else [])]
    condition = {"$ref": f"#/$defs/{when}", "properties": dict.fromkeys(foreign, False)}
    forms = [_form(parameter, form, condition) for form in FORMS_OF_KIND[parameter.kind]]
    source = f"default: {parameter.source}" if parameter.source else ""
    text = "; ".join(filter(None, (parameter.help, parameter.note, parameter.default_note, source)))
    alone = described("for every trial", constant(parameter))
    default = {} if parameter.layers_of_pair else {"default": plain(parameter.default)}
    return described(text, {"anyOf": [alone, *forms], **default})


def _form(parameter: Parameter, form: str, condition: Schema) -> Schema:
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
        key: listed if key == form else condition if key == "when" else described(OPTIONS[key], options[key])
        for key in FORMS[form].keys
    }
    return described(f"{FORMS[form].example}: {FORMS[form].help}", mapping(keys, **rules))


def _condition(parameter: Parameter) -> Schema:
    value = constant(parameter)
    if parameter.kind == "layers":
        # As tables show them, because a list holds alternatives.
        value = {"type": "string", "pattern": r"^\d+(,\d+)*$"}
    return _or_several(value)


def _or_several(value: Mapping[str, Any]) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _effects(known: Mapping[str, Parameter]) -> list[Schema]:
    """Returns the rules on entries without effect, as far as they follow from listed values."""
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
    """Returns the schema of a value that is one of those allowed, or in the range allowed."""
    if isinstance(allowed, Range):
        return {"type": "number", **allowed.as_schema()}
    return {"enum": list(allowed)}


def _having(properties: Mapping[str, Any]) -> Schema:
    """Returns the schema of a mapping that has these keys, and perhaps others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}
