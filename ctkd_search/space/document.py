"""YAML files that know their line numbers, and all that is wrong with one, at once."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from ctkd_search.errors import UserError
from ctkd_search.fields import optional_dataclass
from ctkd_search.space.flow import unspaced_key
from ctkd_search.space.overrides import put
from ctkd_search.text import one_line

T = TypeVar("T")
Place = tuple[str | int, ...]

# The key by which a file of a search's best configs is known.
BEST_CONFIGS_OF = "best_configs_of"


class _Located:
    """Says where a value is that cannot be, such as the 45th of a month."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns the value of a node."""
        try:
            return super().construct_object(node, deep)  # type: ignore[misc]
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


class _Loader(_Located, yaml.SafeLoader):
    """Safe YAML in which ``5e-4`` is a number, as people write it and as YAML 1.2 has it."""


class _KeptLoader(_Located, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads what `dump` has written, in which there are no faults to be explained: by C code, where PyYAML has it."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads again: text that looks like a number is quoted."""


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_DIGITS = list("-+.0123456789")
_Dumper.add_implicit_resolver(_FLOAT, _EXPONENT, _DIGITS)
_POINT = re.compile(r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$")
_WHOLE = re.compile(r"[-+]?(0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+)$")
for _reading in (_Loader, _KeptLoader):
    # Only numbers that YAML 1.1 and 1.2 read alike: in 1.1 alone 010 is 8, and 1:30 is 90.
    _reading.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in (_INT, _FLOAT)]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, _pattern in ((_FLOAT, _EXPONENT), (_FLOAT, _POINT), (_INT, _WHOLE)):
        _reading.add_implicit_resolver(_tag, _pattern, _DIGITS)


def dump(content: Any) -> str:
    """Returns plain values as YAML, in the order given."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _unshared(value: Any) -> Any:
    """Returns a copy of a value in which no part is shared by two places."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


class Document:
    """A YAML mapping with the line of everything in it, and the problems found so far.

    Args:
        source: Name of the file in messages.
        text: Its text.
        overrides: ``KEY=VALUE`` words that replace or add values; KEY is a dotted path, VALUE is YAML.
        kept: Whether the text was written by `dump`.

    Raises:
        UserError: The text is not a YAML mapping, or an override not a KEY=VALUE, or below a value that has no keys.
    """

    def __init__(self, source: str, text: str, overrides: Sequence[str] = (), kept: bool = False) -> None:
        self.source = source
        self.kept = kept
        self._lines: dict[Place, str] = {}
        self._written: dict[Place, str] = {}
        self._first = "line 1"
        self.problems: list[tuple[Place, str]] = []
        try:
            loader = _KeptLoader(text) if kept else _Loader(text)
            node = loader.get_single_node()
            if node:
                self._index(node, ())
            self.data: Any = _unshared(loader.construct_document(node)) if node else {}
            if node:
                self._note_written(node, ())
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise UserError(f"{source}, line {line}: not valid YAML: {error.reason}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f", line {mark.line + 1}" if mark else ""
            problem = str(error.problem or error.context)
            advice = next((advice for words, advice in _ADVICE.items() if words in problem), "")
            raise UserError(f"{source}{where}: not valid YAML: {problem}{advice}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{source}: not valid YAML: {one_line(str(error))}") from None
        if not isinstance(self.data, dict):
            raise UserError(f"{source}: must be a mapping of keys to values, but got {type(self.data).__name__}")
        for override in overrides:
            self._override(override)

    @classmethod
    def of(cls, source: str, content: Mapping[str, Any], overrides: Sequence[str] = ()) -> Document:
        """Returns a document of values that were never written to a file, so that its problems have no lines.

        Raises:
            UserError: A value cannot stand in a YAML file, or an override is faulty.
        """
        try:
            document = cls(source, dump(content), kept=True)
        except yaml.representer.RepresenterError as error:
            plain = "numbers, texts, truth values, lists and mappings"
            raise UserError(f"{source}: must contain {plain} alone, but got {error.args[-1]!r}") from None
        document._lines, document._written, document._first = {}, {}, ""
        for override in overrides:
            document._override(override)
        return document

    def _index(self, node: yaml.Node, place: Place) -> None:
        self._lines.setdefault(place, f"line {node.start_mark.line + 1}")
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key_node, value_node in node.value:
                key = str(getattr(key_node, "value", ""))
                here = (*place, key)
                self._lines[here] = f"line {key_node.start_mark.line + 1}"
                if key in seen:
                    self.fault(here, "is duplicated; leave one out")
                seen.add(key)
                self._index(value_node, here)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._index(item, (*place, number))

    def _note_written(self, node: yaml.Node, place: Place) -> None:
        """Keeps every value as it was written, before YAML converts it."""
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._note_written(value, (*place, str(getattr(key, "value", ""))))
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._note_written(item, (*place, number))
        else:
            self._written[place] = str(node.value)

    def _override(self, override: str) -> None:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"--set takes KEY=VALUE, as in train.batch_size=64, but got {override!r}")
        try:
            value = _unshared(yaml.load(text, Loader=_Loader))
            node = yaml.compose(text, Loader=_Loader)
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"--set {dotted}: {text!r} is not valid YAML ({one_line(str(error))})") from None
        if slip := unspaced_key(node):
            raise UserError(f"--set {dotted}: {slip!r} in {text!r} needs a space after the colon, as in '{{top: 2}}'")
        put(self.data, keys, value)
        here = tuple(keys)
        self._lines = {place: line for place, line in self._lines.items() if place[: len(keys)] != here}
        self._written = {place: words for place, words in self._written.items() if place[: len(keys)] != here}
        if node is not None:
            self._note_written(node, here)
        for length in range(1, len(keys) + 1):
            self._lines.setdefault(tuple(keys[:length]), f"--set {dotted}")
        self._lines[tuple(keys)] = f"--set {dotted}"

    def fault(self, place: Place, message: str) -> None:
        """Notes a problem."""
        written = self._written.get(place, "")
        if message.endswith(("but got True", "but got False")) and written.lower() in _TRUTHS:
            message += f", as which YAML reads {written} without quotes"
        self.problems.append((place, message))

    def unquoted(self, place: Place, value: Any) -> str | None:
        """Returns the fault of a text that YAML reads as something else, such as ``yes``, ``1e3`` or ``2024-01-01``.

        Args:
            place: Its place.
            value: The value that YAML has read there.

        Returns:
            A message with the quoted form; None if it is text, or a value that quotes would not make a text.
        """
        kind = next((name for form, name in _READ_AS.items() if isinstance(value, form)), None)
        written = self._written.get(place)
        if kind is None or written is None:
            return None
        return f"must be text, but {written} without quotes is {kind} in YAML; put it in quotes: '{written}'"

    def where(self, place: Place) -> str:
        """Returns the line of a place, or of the nearest enclosing one that has a line."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, self._first)

    def section(self, key: str, form: type[T], default: T) -> T:
        """Reads a section into a dataclass; notes its problems, and returns `default` if there are any.

        Args:
            key: The section's key.
            form: A dataclass whose annotations are the rules.
            default: Returned for a missing or faulty section.
        """
        if self.data.get(key) is None:
            return default
        return self.validated((key,), self.data[key], form, default)

    def validated(self, place: Place, raw: Any, form: Any, default: Any) -> Any:
        """Checks a value against a type; every problem is noted with its place.

        Args:
            place: The value's place.
            raw: The value.
            form: A dataclass, whose fields a mapping must fill, or any type that pydantic understands. Types are
                taken strictly: no text passes for a number, and no number for a truth value.
            default: Returned if there is a problem.
        """
        if optional := optional_dataclass(form):
            if raw is None:
                return None
            form = optional
        if dataclasses.is_dataclass(form):
            return self._filled(place, raw, form, default)
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        try:
            return TypeAdapter(form, config=ConfigDict(strict=True)).validate_python(raw)
        except ValidationError as error:
            inner, message = _summary(error)
            if message.startswith(f"must be {_TEXT}, "):
                message = self.unquoted((*place, *inner), error.errors()[0]["input"]) or message
            self.fault((*place, *inner), message)
            return default

    def _filled(self, place: Place, raw: Any, form: Any, default: Any) -> Any:
        fields = {item.name: item for item in dataclasses.fields(form)}
        if not isinstance(raw, dict):
            self.fault(place, f"must be a mapping, with the keys {', '.join(fields)}, but got {raw!r}")
            return default
        self.unknown_keys(place, raw, fields)
        hints = get_type_hints(form, include_extras=True)
        values = {}
        for name, item in fields.items():
            before = len(self.problems)
            if name in raw:
                value = self.validated((*place, name), raw[name], hints[name], None)
                if len(self.problems) == before or dataclasses.is_dataclass(value):
                    values[name] = value
            elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                self.fault((*place, name), "is missing")
        # Valid values are kept, so that they can be checked together with the rest of the file.
        try:
            return form(**values)
        except TypeError:
            return default

    def unknown_keys(self, place: Place, raw: dict[str, Any], allowed: Iterable[str]) -> None:
        """Notes every key that is not allowed."""
        for key in raw:
            if key not in allowed:
                self.fault((*place, str(key)), unknown(str(key), allowed))

    def raise_problems(self) -> None:
        """Raises all the problems noted as one UserError, in the order of the file."""
        if not self.problems:
            return
        lines = []
        for place, message in self.problems:
            where = self.where(place)
            dotted = ".".join(str(key) for key in place)
            number = int(where.removeprefix("line ")) if where.startswith("line ") else 0
            lines.append((number, f"  {where}{': ' if where else ''}{dotted} {message}".rstrip()))
        count = len(lines)
        heading = f"{self.source} has {count} error{'s' * (count != 1)}:"
        raise UserError("\n".join([heading, *(line for _, line in sorted(lines, key=lambda item: item[0]))]))


def read(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Reads a YAML file.

    Raises:
        UserError: It is missing or unreadable, or not a YAML mapping.
    """
    if path.suffix in _OTHER_FILES and os.path.isfile(path):
        raise UserError(f"{path} is {_OTHER_FILES[path.suffix]} by its name, not a YAML file")
    try:
        return Document(str(path), path.read_text(encoding="utf-8"), overrides)
    except FileNotFoundError:
        beside = [path.with_name(f"{path.name}{ending}") for ending in (".yaml", ".yml")]
        likely = [*beside, *(Path("spaces") / found.name for found in beside)]
        near = next((found for found in likely if os.path.isfile(found)), None)
        raise UserError(f"there is no file {path}{f'; did you mean {near}?' if near else ''}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"cannot read {path}: byte {error.object[error.start]:#04x} in line {line} is not UTF-8; save the file as "
            "UTF-8"
        ) from None
    except OSError as error:
        inside = "; name a file in it" if os.path.isdir(path) else ""
        raise UserError(f"cannot read {path}: {error.strerror or error}{inside}") from None


def refuse_record(path: Path | str, document: Document) -> None:
    """Refuses the JSON files of searches and final trainings, which YAML reads too, and files of best configs."""
    if {"space", "again"} <= document.data.keys():
        raise UserError(
            f"{path} is the record of a search; write its best config with: ctkd-search export NAME -o FILE"
        )
    if BEST_CONFIGS_OF in document.data:
        raise UserError(
            f"{path} has the best configs of a search; begin another search from it with: ctkd-search run SPACE --name "
            f"NAME --warm-start {path}"
        )
    if {"config", "versions"} <= document.data.keys():
        raise UserError(f"{path} is the result of a final training, not a space or a config")


def unknown(key: str, allowed: Iterable[str]) -> str:
    """Returns the message for a key that is not allowed, with the nearest one that is."""
    allowed = list(allowed)
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"is not a known key{hint}; allowed: {', '.join(allowed)}"


def _summary(error: Any) -> tuple[Place, str]:
    """Returns the place inside a list or a mapping, if any, and one message for a value that does not fit its type."""
    problems = error.errors()
    own = [problem for problem in problems if problem["type"] == "value_error"]
    problem = own[0] if own else problems[0]
    inner = tuple(key for key in problem["loc"] if isinstance(key, int))
    if own:
        fault = problem["ctx"]["error"]
        return (*inner, *getattr(fault, "place", ())), str(fault)
    rules = dict.fromkeys(re.sub(r"^Input should be ", "", item["msg"]) for item in problems)
    wanted = " or ".join(_PLAIN.get(rule, rule) for rule in rules)
    return inner, f"must be {wanted}, but got {problem['input']!r}"


# Kinds of files with other endings that are found next to spaces and configs.
_OTHER_FILES = {
    **dict.fromkeys((".onnx", ".pt", ".pt2", ".pth", ".safetensors"), "a network"),
    ".html": "a report",
    ".csv": "a table",
    ".db": "a data base",
}
# Advice for errors of YAML's parser.
_ADVICE = {
    r"'\t'": "; indent with spaces, not tabs",
    "another document": "; a file has one, so leave the line --- out",
}
_TEXT = "text"
_TRUTHS = ("yes", "no", "on", "off")
# What YAML makes of words without quotes; a truth value is a whole number to Python, and a time is a date.
_READ_AS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    datetime.datetime: "a time",
    datetime.date: "a date",
}
_PLAIN = {
    "a finite number": "finite",
    "a valid string": _TEXT,
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid dictionary": "a mapping",
    "a valid tuple": "a list",
}
