"""Files of weights, read without executing anything in them."""

from __future__ import annotations

import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ctkd_search.distill.file_kinds import is_safetensors, no_weights
from ctkd_search.errors import UserError

# Keys under which training scripts save a network's weights. Those of one network come before their running averages.
KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "net_state_dict",
    "model_state",
    "weights",
    "params",
    "student",
    "student_state_dict",
    "teacher",
    "teacher_state_dict",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "params_ema",
)
SAVING = 'torch.save(model.state_dict(), "teacher.pt")'
_DEEPEST = 3
_SHOWN = 5
# Modules and functions by which a pickle could run any program.
_PROGRAMS = ("os", "posix", "nt", "sys", "subprocess", "runpy", "importlib", "pty", "socket", "shutil", "webbrowser")
_CALLS = tuple(f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__", "open", "breakpoint"))
_DICT = "collections.defaultdict"
# Names in every file of weights.
_USUAL = re.compile(r"torch\._utils\.\w+|torch\.\w*Storage|collections\.OrderedDict|builtins\.set")
# The pickles that a file of PyTorch before 1.6 begins with; the last one is what was saved.
_PICKLES = 4


@dataclass(frozen=True)
class StateDict:
    """Weights in a file.

    Attributes:
        key: Key of their dict in the file, as in ``model``; empty if it is the file's outermost one.
        tensors: The weights by their names.
        others: Names in the same dict of values that are not tensors.
    """

    key: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightFile:
    """The content of a file of weights.

    Attributes:
        path: The file.
        form: Library that wrote it.
        found: State dicts in it, one at least, the preferred first.
        foreign: Types of other objects in it, none of which was created.
    """

    path: Path
    form: str
    found: tuple[StateDict, ...]
    foreign: tuple[str, ...] = ()


class Foreign:
    """A placeholder for an object of any class: accepts the arguments in a pickle, and ignores them.

    A subclass is created for each type that a file names, so that loading the file runs no other code.
    """

    type_name = ""
    made = False

    def __new__(cls, *args: Any, **options: Any) -> Foreign:
        """Notes that the file contains an object of the type."""
        cls.made = True
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.is_module = False

    def __setstate__(self, state: Any) -> None:
        self.is_module = isinstance(state, dict) and "_modules" in state


def _empty_dict(*args: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


def read_weights(path: Path) -> WeightFile:
    """Reads a file of weights without executing anything in it.

    Args:
        path: A file of torch.save or of safetensors.

    Returns:
        The state dicts in it, on the CPU: its outermost dict, or those under one of `KEYS`.

    Raises:
        UserError: The file is missing or damaged, or contains no weights; the message names what it contains.
    """
    try:
        if is_safetensors(path):
            return WeightFile(path, "safetensors", (StateDict("", _read_safetensors(path)),))
        kind = no_weights(path)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}") from None
    if kind is not None:
        raise UserError(f"{path} is not a file of weights: it is {kind}")
    content, foreign = _read_torch(path)
    found = list(_state_dicts(content, ""))
    if not found:
        raise UserError(f"{path} {_lacking(content, foreign)}")
    return WeightFile(path, "torch.save", tuple(found), foreign)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    except SafetensorError as error:
        raise UserError(f"{path} is a damaged safetensors file ({error}); copy or download it again") from None
    if not tensors:
        raise UserError(f"{path} does not contain a state dict: it is a safetensors file without tensors")
    return tensors


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Returns the content of a torch.save file, and the types in it that were replaced by placeholders."""
    named = _types_named(path)
    programs = [name for name in named if name.partition(".")[0] in _PROGRAMS or name in _CALLS]
    if programs:
        raise UserError(
            f"{path} is not a file of weights alone: it names {_listed(programs)}, which would run a program; it was "
            f"not opened. If you trust it, save its state dict alone: {SAVING}"
        )
    stand_ins: dict[str, Any] = {
        name: type("Foreign", (Foreign,), {"type_name": name}) for name in named if name != _DICT
    }
    # A pickle fills a defaultdict after creating it, so it must be a dict.
    allowed: list[Any] = [(_empty_dict, _DICT), *((stand_in, name) for name, stand_in in stand_ins.items())]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises many kinds, whose texts are for programmers
        reason = f"it contains {_listed(named)}" if named else "it is damaged, or saved with another pickle protocol"
        raise UserError(
            f"{path} is not a file of weights that can be read without running its code: {reason}; save its state "
            f"dict alone: {SAVING}"
        ) from None
    return content, tuple(name for name, stand_in in stand_ins.items() if stand_in.made)


def _types_named(path: Path) -> list[str]:
    """Returns the types and functions that a file names, without those that torch allows in weights."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except ValueError:  # a file of PyTorch before 1.6
        with open(path, "rb") as file:
            return sorted(name for name in set(_named_in_pickles(file)) if not _USUAL.fullmatch(name))
    except Exception:  # the names cannot be listed; torch.load refuses those that it does not allow
        return []


def _named_in_pickles(file: BinaryIO) -> Iterator[str]:
    """Yields the types and functions that the pickles of an older file name; nothing is executed."""
    try:
        for _ in range(_PICKLES):
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    # The name of the module in the protocol that torch.save uses, which is older than Python 3.
                    yield str(argument).replace(" ", ".").replace("__builtin__.", "builtins.", 1)
    except ValueError:
        return


def _state_dicts(content: Any, key: str) -> Iterator[StateDict]:
    """Yields the state dicts under the known keys, or else the outermost one."""
    if not isinstance(content, dict):
        return
    if key.count(".") < _DEEPEST:
        inner = [
            found
            for name in KEYS
            if isinstance(content.get(name), dict)
            for found in _state_dicts(content[name], f"{key}.{name}" if key else name)
        ]
        if inner:
            yield from inner
            return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield StateDict(key, tensors, tuple(str(name) for name in content if name not in tensors))


def _lacking(content: Any, foreign: tuple[str, ...]) -> str:
    """Returns why a file's content is not a state dict, as the end of a sentence."""
    places: Mapping[Any, Any] = content if isinstance(content, dict) else {"": content}
    for key, value in places.items():
        if isinstance(value, Foreign) and (value.is_module or not isinstance(content, dict)):
            where = f"under {key!r} " if key else ""
            what = "a whole pickled model" if value.is_module else "a pickled object"
            return (
                f"contains {where}{what} ({value.type_name}) and no state dict; reading it would run its code. With "
                f"that code installed, save the state dict alone: {SAVING}"
            )
    found = f"the keys {_listed([str(key) for key in content])}" if isinstance(content, dict) else "no dict"
    objects = f", and objects of {_listed(foreign)}" if foreign else ""
    return (
        f"does not contain a state dict (names of weights, and tensors): it contains "
        f"{found if content != {} else 'nothing'}{objects}; weights are read from the outermost dict or under "
        f"{', '.join(KEYS)}. Save the state dict alone: {SAVING}"
    )


def _listed(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
