"""Methods of the user's own, referred to as ``package.module:Class``."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.distill.requests import KINDS, Needs
from ctkd_search.errors import MACHINE_SIGNS, UserError
from ctkd_search.plugins import describe_error, load_object

_KINDS = ("float", "int", "choice", "layers")
# Keys of a method's section in a config, which are no parameters.
_TAKEN = ("name",)
# What a class may define; an error in it is told with the class's name.
_PROPERTIES = ("needs", "learns_labels", "least_batch")
_FUNCTIONS = (
    *("terms", "training_network", "begin_epoch", "fault", "epochs_fault", "setting_fault", "idle"),
    *("describe", "canonical", "structure"),
)
# Source of defaults that the class declares without one.
_SOURCE = "your own code"


def own_class(reference: str, base: type) -> Any:
    """Returns the method that a reference stands for: a subclass of the user's class, whose name is the reference.

    Args:
        reference: Module and class, as in ``my_code:MyMethod``.
        base: The class that every method is derived from.

    Raises:
        UserError: It cannot be imported, is no method, or what it declares is faulty.
    """
    # In another directory the same name may mean another class.
    return _own_class(os.getcwd(), reference, base)


@functools.lru_cache(maxsize=64)
def _own_class(directory: str, reference: str, base: type) -> Any:
    found: Any = load_object(reference)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"{reference!r} must be a class derived from ctkd_search.distill.methods.Method, but is {found!r:.80}"
        )
    declared: Any = found
    for fault in _faults(declared):
        raise UserError(f"{reference}: {fault}")
    body: dict[str, Any] = {"name": reference, "__module__": found.__module__, "__doc__": found.__doc__}
    guarded = {name: _guarded(reference, name, getattr(found, name)) for name in (*_PROPERTIES, *_FUNCTIONS)}
    body["parameters"] = tuple(dataclasses.replace(item, source=item.source or _SOURCE) for item in declared.parameters)
    named: Any = type(found.__name__, (found,), {**body, **guarded})
    for fault in _needs_faults(named().needs):
        raise UserError(f"{reference}: {fault}")
    return named


def _guarded(reference: str, name: str, defined: Any) -> Any:
    """Returns what a class defines, with its errors told in one line with file and line."""
    function: Any = defined.fget if isinstance(defined, property) else defined

    file = getattr(getattr(function, "__code__", None), "co_filename", None)

    @functools.wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except (UserError, MemoryError, OSError):
            raise
        except Exception as error:  # of the user's code, which may raise anything
            if isinstance(error, RuntimeError) and any(sign in str(error) for sign in MACHINE_SIGNS):
                raise
            raise UserError(f"{name} of {reference} fails with {describe_error(error, file)}") from error

    return property(guarded) if isinstance(defined, property) else guarded


def _faults(found: Any) -> Iterator[str]:
    """Yields the faults of what a class declares."""
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        yield f"it lacks {' and '.join(missing)}, which every method defines"
    if not isinstance(getattr(found, "summary", None), str) or not found.summary.strip():
        yield "summary must be its description in a line"
    parameters = found.parameters
    if not isinstance(parameters, tuple) or not all(isinstance(item, Parameter) for item in parameters):
        yield f"parameters must be a tuple of Parameter, but is {parameters!r:.80}"
        return
    names = [item.name for item in parameters]
    for item in parameters:
        if not isinstance(item.name, str) or not item.name.isidentifier() or item.name in _TAKEN:
            yield f"a parameter's name must be a Python identifier other than 'name', but got {item.name!r}"
        elif hasattr(found, item.name):
            yield f"parameter {item.name} has the name of an attribute of the class; choose another name"
        elif names.count(item.name) > 1:
            yield f"parameter {item.name} is declared twice"
        elif fault := _parameter_fault(item, names):
            yield f"parameter {item.name} {fault}"
    if found.baselines:
        yield "baselines has no effect on a method of your own; leave it out"


def _parameter_fault(item: Parameter, names: list[str]) -> str | None:
    """Returns what is wrong with the declaration of a parameter, or None."""
    if item.kind not in _KINDS:
        return f"must be of kind {', '.join(_KINDS)}, but is of kind {item.kind!r}"
    if item.kind == "choice" and len(item.choices) < 2:
        return f"must have at least two choices, but has {len(item.choices)}"
    if not item.help:
        return "needs a help, one line that says what it is"
    if fault := item.fault(item.default):
        return f"has a default that it does not allow: it {fault}"
    if unknown := [other for other in item.only_with if other not in names]:
        return f"has an effect only with {unknown[0]}, which is no parameter of the method"
    return None


def _needs_faults(needs: Any) -> Iterator[str]:
    """Yields the faults of what a method asks of the teachers."""
    if not isinstance(needs, Needs):
        yield f"needs must return Needs, but returned {needs!r:.80}"
        return
    for output in needs.expert:
        kind, layer = output
        if kind not in KINDS:
            yield f"needs names a teacher output {kind!r}; there are: {', '.join(KINDS)}"
        elif KINDS[kind] != (layer > 0):
            yield f"needs names the {kind} of layer {layer}; " + (
                "layers count from 1" if KINDS[kind] else f"{kind} have no layer"
            )
