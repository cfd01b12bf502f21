"""JSON Schema of an augmentation, and of the alternatives of a searched one."""

from __future__ import annotations

from typing import Any

from ctkd_search.config import Augment
from ctkd_search.fields import as_schema_pattern
from ctkd_search.names import NAME
from ctkd_search.space.distributions import OPTIONS
from ctkd_search.space.parameters import AUGMENT_HELP
from ctkd_search.space.schema.forms import Schema, described, mapping, optional, section

# Name of the definition of an alternative.
ALTERNATIVE = "alternative"


def augment_schema() -> Schema:
    """Returns the schema of an augmentation, without defaults: what is left out is taken from elsewhere."""
    schema = optional(section(Augment))
    for item in schema["properties"].values():
        item.pop("default", None)
    erasing = schema["properties"]["erasing"]
    alone = {key: value for key, value in erasing["properties"]["probability"].items() if key != "description"}
    schema["properties"]["erasing"] = {
        "description": erasing.pop("description"),
        "anyOf": [alone, erasing],
    }
    trivial: Schema = {"properties": {"trivialaugment": {"const": True}}, "required": ["trivialaugment"]}
    return {**schema, "if": trivial, "then": {"properties": {"randaugment": {"const": None}}}}


def alternatives_schema(condition: dict[str, Any]) -> Schema:
    """Returns the schema of a searched augmentation.

    Args:
        condition: The schema of its condition.
    """
    settings = {
        "type": "object",
        "propertyNames": {"pattern": as_schema_pattern(NAME)},
        "additionalProperties": {"$ref": f"#/$defs/{ALTERNATIVE}"},
        "minProperties": 2,
    }
    text = (
        "Settings of each alternative by its name, as in `{weak: {}, strong: {mixup: 0.2}}`; the first is the default"
    )
    properties = {"choice": described(text, settings), "when": described(OPTIONS["when"], condition)}
    return described(AUGMENT_HELP, mapping(properties, required=["choice"]))
