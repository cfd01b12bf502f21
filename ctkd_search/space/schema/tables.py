"""The reference of a space as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ctkd_search import data
from ctkd_search.config import plain
from ctkd_search.distill.methods.base import Method, methods
from ctkd_search.models import names
from ctkd_search.models.names import ELSEWHERE, EXAMPLES
from ctkd_search.models.registry import families
from ctkd_search.recipe import Recipe
from ctkd_search.space.distributions import FORMS, OPTIONS
from ctkd_search.space.parameters import AUGMENT, parameters
from ctkd_search.space.schema.document import space_schema
from ctkd_search.space.schema.forms import Schema

BEGIN = "<!-- reference: written by ctkd-search schema --markdown -o docs/reference/space.md -->"
END = "<!-- end of the reference -->"
# What the expert may be asked for, in words.
_ASKED = {
    "logits": "logits",
    "attention": "attention maps",
    "statistics": "feature statistics",
    "embedding": "embeddings",
    "features": "feature maps",
}
_TYPES = {"string": "text", "number": "number", "integer": "whole number"}


def reference() -> str:
    """Returns tables of all keys that a space may have."""
    parts = {
        "What may stand for a parameter": _forms(),
        "What may be searched": _table(("parameter", "default", "values", "what it is"), _searched()),
        "Methods": _methods(),
        "The other sections": _table(("key", "default", "values", "what it is"), _sections()),
        "Data sets": _datasets(),
        "Architectures": _architectures(),
    }
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items()) + "\n"


def has_place(text: str) -> bool:
    """Returns whether a Markdown text has the two comments that enclose the reference."""
    return END in text.partition(BEGIN)[2]


def renewed(text: str) -> str:
    """Returns a Markdown text with the reference between its two comments renewed."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [tuple(heading), tuple("---" for _ in heading), *map(tuple, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def _code(value: Any) -> str:
    """Returns a value as it is written in a space."""
    if value is None or value == []:
        return ""
    if isinstance(value, list):
        return f"`[{', '.join(_bare(item) for item in value)}]`"
    return f"`{_bare(value)}`"


def _bare(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _forms() -> str:
    rows = [
        ("`0.1`, `[2, 3]`", "a constant"),
        *((f"`{form.example}`", form.help) for form in FORMS.values()),
        ("`when: {step_loss: kl}` beside any of them", OPTIONS["when"]),
    ]
    return _table(("form", "meaning"), rows)


def _searched() -> Iterator[tuple[str, str, str, str]]:
    schema, known = space_schema(), parameters(Recipe(), tuple(methods()))
    for name, item in schema["properties"]["search"]["properties"].items():
        if name == AUGMENT:
            values = "named alternatives, each with the keys of the section `augment`"
            yield f"`{name}`", "the first one", values, item["description"]
            continue
        # Of a method, what it varies.
        under = {f"{name}.{key}": own for key, own in item["properties"].items()} if "properties" in item else {}
        if under:
            yield f"**`{name}`**", "", "", item["description"]
        for key, own in (under or {name: item}).items():
            default = _code(own["default"]) if "default" in own else known[key].layers_of_pair
            yield f"`{key}`", default, _values(own["anyOf"][0], schema), own["description"]


def _methods() -> str:
    rows = [
        (
            f"`{name}`",
            method.summary,
            method.paper,
            _needed(method),
            ", ".join(f"`{item.name}`" for item in method.parameters),
        )
        for name, method in methods().items()
    ]
    return _table(("method", "what the student learns from", "paper", "needs of the teachers", "varies"), rows)


def _needed(method: type[Method]) -> str:
    """Returns a description of the needs of a method with its default settings."""
    needs = method().needs
    of_expert = list(dict.fromkeys(_ASKED[output.kind] for output in needs.expert))
    words = ["the scratch teacher's logits"] if needs.scratch else []
    words += ["the logits of the scratch teacher's running average"] if needs.average else []
    words += [f"the expert's {' and '.join(of_expert)}"] if of_expert else []
    words += ["the expert's network"] if needs.network else []
    words += [f"the expert at {len(needs.anchors)} points of its training"] if needs.anchors else []
    words += [f"trained beside the student: {method.auxiliary}"] if method.auxiliary else []
    return "; ".join(words) or "nothing"


def _sections() -> Iterator[tuple[str, str, str, str]]:
    schema = space_schema()
    train = schema["properties"]["train"]["properties"]
    for name, item in schema["properties"].items():
        if name != "search":
            yield from _rows(name, item, schema, train if name != "train" else None)


def _rows(
    place: str, item: Schema, schema: Schema, train: Schema | None, required: bool = False
) -> Iterator[tuple[str, str, str, str]]:
    """Yields the row of a key, and those of the keys under it."""
    branches = item.get("anyOf", [item])
    own: dict[str, Schema] = next((branch["properties"] for branch in branches if "properties" in branch), {})
    needed = {key for branch in branches for key in branch.get("required", ())}
    top = "." not in place
    required = required or (top and place in schema["required"])
    shown = "required" if required and not own else _code(item.get("default"))
    values = (
        "keys as under `train`" if own and own == train else "" if branches == [item] and own else _values(item, schema)
    )
    yield f"**`{place}`**" if top else f"`{place}`", shown, values, item["description"]
    if own == train:
        return
    for key, inner in own.items():
        if key != "name" or place == "dataset":
            yield from _rows(f"{place}.{key}", inner, schema, train, key in needed)


def _values(item: Schema, schema: Schema) -> str:
    """Returns a description of the values that a schema allows."""
    if "$ref" in item:
        return _values(schema["$defs"][item["$ref"].rpartition("/")[2]], schema)
    for several in ("anyOf", "oneOf"):
        if several in item and any({"type", "const", "enum", "$ref"} & set(branch) for branch in item[several]):
            shown = [_values(branch, schema) for branch in item[several] if branch != {"type": "null"}]
            return (", " if several == "oneOf" else " or ").join(word for word in shown if word)
    if "const" in item:
        return _code(item["const"])
    if "enum" in item:
        return ", ".join(_code(value) for value in item["enum"] if value is not None)
    types = [kind for kind in _listed(item["type"]) if kind != "null"]
    if types == ["object"]:
        # A mapping with keys of its own is described in rows of its own.
        if "properties" in item:
            return ""
        inner = item["additionalProperties"]
        return f"mapping of names to {'values' if inner is True else _values(inner, schema)}"
    if types == ["array"]:
        return f"list of {_values(item['items'], schema)}".replace("number", "numbers")
    if types == ["boolean"]:
        return "`true`, `false`"
    limits = {kind: _such_as(item) if kind == "string" else _bounds(item) for kind in types}
    return " or ".join(_TYPES[kind] + limit for kind, limit in limits.items())


def _such_as(item: Schema) -> str:
    texts = [_code(example) for example in item.get("examples", ()) if isinstance(example, str)]
    return f" such as {' or '.join(texts)}" if texts else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _bounds(item: Schema) -> str:
    words = [
        f"{sign} {_bare(item[key])}"
        for key, sign in [("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤")]
        if key in item
    ]
    return f" {', '.join(words)}" if words else ""


def _datasets() -> str:
    rows = []
    for name in data.names():
        dataset = data.describe(name)
        keys = [f"`{key}`" + (" (required)" if key in dataset.required else "") for key in dataset.options]
        own = plain(dataset.augment.given())
        augment = ", ".join(f"{key}: {_bare(value)}" for key, value in own.items())
        rows.append((f"`{name}`", dataset.summary, ", ".join(keys), f"`{{{augment}}}`"))
    rows.append(("`package.module:factory`", "your own data set, made by your function", "`options`", "what it says"))
    return _table(("data set", "what it is", "its own keys", "its own `augment`"), rows)


def _architectures() -> str:
    rows = [(family.form, ", ".join(f"`{name}`" for name in family.examples)) for family in families()]
    rows += [(form, ", ".join(f"`{name}`" for name in EXAMPLES[source])) for source, form in ELSEWHERE.items()]
    rows += [(f"behind these: {form}", f"`{EXAMPLES[option][0]}`") for option, form in names.OPTIONS.items()]
    return _table(("architecture", "such as"), rows)
