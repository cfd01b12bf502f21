"""The baselines of a final training: named ones with the config's recipe, and configs of files with their own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ctkd_search import data
from ctkd_search.config import TrialConfig
from ctkd_search.distill.methods.base import Method, Parameter, make_method, method_class, same_meaning
from ctkd_search.errors import UserError
from ctkd_search.names import name_fault
from ctkd_search.pairs import Pair
from ctkd_search.paths import user_path
from ctkd_search.records.config_file import read_config, with_changes
from ctkd_search.records.store import differences
from ctkd_search.space.baselines import BASELINES, USUAL, baseline_method
from ctkd_search.space.defaults import default_of
from ctkd_search.space.effects import baseline_fault
from ctkd_search.space.ensembles import expert_fault
from ctkd_search.space.search_reader import pair_fault
from ctkd_search.space.teacher_mode import whole_logits_fault

# Suffixes of files of configs.
_SUFFIXES = (".yaml", ".yml")  # in any case
# What two configs must have in common to be compared: the images, the budget, and what they are judged by. The teachers
# too, because a final training has one mode of them.
_COMMON = ("dataset", "epochs", "teachers", "metrics", "objective")


class Baselines(NamedTuple):
    """The baselines that are trained beside a config.

    Attributes:
        names: Their names: those of `BASELINES` in its order, and then those of `files`.
        notes: A line for each usual one that is left out.
        files: The configs that were given as files, by the names of the files without their suffixes.
    """

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, TrialConfig] = {}


def choose_baselines(
    asked: Sequence[str | Path] | None, config: TrialConfig, seeds: int, epochs: int | None = None
) -> Baselines:
    """Chooses the baselines that are trained beside a config.

    Args:
        asked: Names, and files of configs: paths, or words that end as one; ``none`` alone, or nothing, for no
            baseline. None for the default: the usual ones where there are several seeds, and none where there is one.
        config: The config.
        seeds: Number of seeds.
        epochs: Number of epochs that the user asked for, in place of those in the files; None for those.

    Raises:
        UserError: A baseline is unknown, makes no sense for this config, or cannot be compared with it; or a file has
            faults.
    """
    if (asked is None and seeds == 1) or (asked is not None and list(asked) in ([], ["none"])):
        return Baselines()
    words = list(USUAL) if asked is None else asked
    paths = [str(word) for word in words if isinstance(word, Path) or word.lower().endswith(_SUFFIXES)]
    names = [word for word in words if isinstance(word, str) and word not in paths]
    for number, name in enumerate(names):
        if fault := _name_fault(name):
            raise UserError(f"--baselines: {fault}")
        if name in names[:number]:
            raise UserError(f"--baselines: {name} is duplicated; name it once")
    own = make_method(config.method)
    faults = {name: fault for name in names if (fault := _fault(config, own, name))}
    if asked is not None:
        for name, fault in faults.items():
            raise UserError(f"--baselines: {name} {fault}; leave it out")
    chosen = tuple(name for name in BASELINES if name in names and name not in faults)
    files = _read_files(paths, config, epochs)
    notes = tuple(f"baseline {name} is left out: it {fault}" for name, fault in faults.items())
    return Baselines((*chosen, *files), notes, files)


def _name_fault(name: str) -> str | None:
    """Returns what is wrong with the name of a baseline, or None."""
    if name in BASELINES:
        return None
    if not name:
        return "a name is empty; there is a comma too many"
    if name == "none":
        return "none stands for no baseline, and alone; leave it or the others out"
    if "/" in name or os.path.exists(name):
        return f"{name} is not the name of a baseline, and the file of a config ends in .yaml or .yml; rename the file"
    return f"unknown baseline {name!r}; there are: {', '.join(BASELINES)}, and files of configs (.yaml), or none alone"


def named_baseline(config: TrialConfig, baseline: str) -> TrialConfig:
    """Returns a named baseline of a config, with the same recipe, data and budget.

    Parameters that a baseline shares with the config's method have the config's values; where such a value is 0, and in
    baselines with the default settings, they have the defaults for the pair and the images.
    """
    pair, geometry = pair_of(config), data.geometry(config.dataset)

    def own(parameter: Parameter) -> Any:
        for other in method_class(config.method.name).parameters:
            if same_meaning(parameter, other) and config.method.values.get(other.name):
                return config.method.values[other.name]
        return None

    method = baseline_method(baseline, own, lambda parameter: default_of(parameter, pair, geometry))
    return dataclasses.replace(config, method=method)


def pair_of(config: TrialConfig) -> str:
    """Returns the pair of a config, as spaces and tables name it."""
    return str(Pair(config.teacher, config.student))


def _fault(config: TrialConfig, own: Method, name: str) -> str | None:
    """Returns the reason why a named baseline makes no sense for a config and its method, or None."""
    baseline = named_baseline(config, name)
    made = make_method(baseline.method)
    if made.canonical() == own.canonical():
        return "is the same as the config itself"
    pair, geometry = pair_of(config), data.geometry(config.dataset)
    if fault := expert_fault(baseline.teachers, baseline.teacher, made.needs, geometry):
        return f"cannot be used with the expert ({fault})"
    if fault := pair_fault(pair, [made], geometry):
        return f"cannot be used with the pair ({fault})"
    if fault := whole_logits_fault(config.teachers.storage, [made]):
        return f"cannot be used with teachers.storage, which {fault}"
    return baseline_fault(made, pair, geometry, baseline.epochs)


def _read_files(paths: Sequence[str], config: TrialConfig, epochs: int | None) -> dict[str, TrialConfig]:
    """Returns the configs in files, each with the seeds of the config that it is compared with."""
    found: dict[str, TrialConfig] = {}
    for number, path in enumerate(paths):
        name = Path(path).stem
        if path in paths[:number]:
            raise UserError(f"--baselines: {path} is duplicated; name it once")
        if name in BASELINES:
            raise UserError(f"--baselines: {path} has the name of a baseline; rename the file, as in tuned-{name}.yaml")
        if name in found:
            raise UserError(f"--baselines: two files are named {name}; rename one, so that they can be told apart")
        if fault := name_fault(name):
            raise UserError(f"--baselines: the name of the file {path}, without its suffix, {fault}; rename the file")
        try:
            read = with_changes(read_config(user_path(path)).config, epochs, None)
        except UserError as error:
            raise UserError(f"--baselines: {error}") from None
        found[name] = dataclasses.replace(read, seed=config.seed, student_seed=config.student_seed)
        _refuse_other_conditions(config, found[name], path)
    return found


def _refuse_other_conditions(config: TrialConfig, other: TrialConfig, path: str) -> None:
    """Refuses a config that cannot be compared with another one, or that is the same."""
    ours, theirs = (
        dataclasses.replace(each, method=make_method(each.method).canonical()).as_dict() for each in (config, other)
    )
    if ours == theirs:
        raise UserError(f"--baselines: {path} is the same as the config itself; leave it out")
    found = differences(_conditions(ours), _conditions(theirs), words=("in the config", f"in {path}"))
    if found:
        listed = "\n  ".join(found)
        raise UserError(
            f"--baselines: {path} cannot be compared with the config, because these must be the same:\n  {listed}"
        )


def _conditions(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a config, as plain values, that configs which are compared have in common."""
    return {**{key: content[key] for key in _COMMON}, "train.precision": content["train"]["precision"]}
