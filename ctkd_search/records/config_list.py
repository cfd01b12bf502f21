"""The best configs of a search as a file, from which other searches begin: also those that come with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import ctkd_search
from ctkd_search.config import Augment, plain
from ctkd_search.errors import UserError
from ctkd_search.fields import Channels, Count, Range
from ctkd_search.geometry import Geometry
from ctkd_search.metrics import OBJECTIVES
from ctkd_search.models.names import elsewhere
from ctkd_search.names import name_fault
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import Recipe
from ctkd_search.records.store import SearchRecord
from ctkd_search.space.definition import Space
from ctkd_search.space.document import BEST_CONFIGS_OF, Document, dump, read
from ctkd_search.space.parameters import AUGMENT, CTKD, METHOD, PAIR, parameters
from ctkd_search.space.search_reader import pair_fault
from ctkd_search.versions import CONFIGS_FORMAT, format_fault

# The files that come with the package.
PUBLISHED = Path(ctkd_search.__file__).parent / "published"
_KEYS = (
    BEST_CONFIGS_OF,
    "format",
    "begun",
    "dataset",
    "epochs",
    "trials",
    "objective",
    "versions",
    "hardware",
    "configs",
)
_DATASET_KEYS = ("name", "classes", "channels", "image_size")
_CONFIG_KEYS = ("trial", "value", "seeds", "values", "augment")
_Classes = Annotated[int, Range(2)]
_Number = Annotated[int, Range(0)]
# No objective is below 0.
_Value = Annotated[float, Range(0)]


@dataclass(frozen=True)
class ListedConfig:
    """A config in such a file.

    Attributes:
        trial: Number of the trial that had it.
        value: Its objective value: the mean over fresh seeds if it was confirmed, else that of the trial.
        seeds: Number of fresh seeds; 0 if it was not confirmed.
        values: The values of its parameters, those that have an effect, by their keys in a space.
        augment: The settings of its augmentation.
    """

    trial: int
    value: float
    seeds: int
    values: dict[str, Any]
    augment: dict[str, Any]


@dataclass(frozen=True)
class ConfigList:
    """The best configs of a search.

    Attributes:
        name: The search.
        dataset: Name of its data set.
        geometry: Its images.
        epochs: Epochs of a trial that was not stopped early.
        objective: What it was judged by, one of `ctkd_search.metrics.OBJECTIVES`.
        configs: The configs, best first.
    """

    name: str
    dataset: str
    geometry: Geometry
    epochs: int
    objective: str
    configs: list[ListedConfig]


def list_text(space: Space, search: SearchRecord, trials: int, configs: Sequence[ListedConfig]) -> str:
    """Returns the file of a search's best configs.

    Args:
        space: Its space.
        search: Its record.
        trials: Number of trials that it had.
        configs: The configs, best first.

    Raises:
        UserError: The record does not have the size of the images, because an early version has written it.
    """
    if search.geometry is None:
        raise UserError(f"the record of search {search.name!r} does not have the size of its images; search again")
    geometry = Geometry(*search.geometry)
    content = {
        BEST_CONFIGS_OF: search.name,
        "format": CONFIGS_FORMAT,
        "begun": search.started,
        "dataset": {"name": space.dataset.name, **geometry._asdict()},
        "epochs": space.budget.epochs,
        "trials": trials,
        "objective": space.strategy.judge.key,
        "versions": search.versions,
        "hardware": search.hardware,
        "configs": [
            {
                "trial": one.trial,
                "value": one.value,
                "seeds": one.seeds,
                "values": plain(one.values),
                "augment": plain(one.augment),
            }
            for one in configs
        ],
    }
    heading = (
        f"# The best configs of the search {search.name!r}: those confirmed with fresh seeds first, by their means.\n"
        "# Try them first in another search: ctkd-search run SPACE --name NAME --warm-start THIS_FILE\n"
    )
    return heading + dump(content)


def is_list(document: Document) -> bool:
    """Returns whether a file is one of best configs."""
    return BEST_CONFIGS_OF in document.data


def read_list(path: Path) -> ConfigList:
    """Reads a file of best configs.

    Raises:
        UserError: It is no such file, it has another format, or it has faults; the message lists all, with lines.
    """
    document = read(path)
    raw = document.data
    if not is_list(document):
        raise UserError(
            f"{path} is not a file of a search's best configs; write one with: ctkd-search export NAME --format "
            "configs -o FILE"
        )
    writer = raw.get("versions")
    if fault := format_fault(
        raw.get("format"), CONFIGS_FORMAT, writer.get("ctkd-search") if isinstance(writer, dict) else None
    ):
        raise UserError(f"the file of best configs {path} {fault}")
    document.unknown_keys((), raw, _KEYS)
    name = document.validated((BEST_CONFIGS_OF,), raw[BEST_CONFIGS_OF], str, "x")
    if not document.problems and (fault := name_fault(name)):
        document.fault((BEST_CONFIGS_OF,), fault)
    epochs = document.validated(("epochs",), raw.get("epochs"), Count, 1)
    objective = raw.get("objective")
    if objective not in list(OBJECTIVES):
        document.fault(("objective",), f"must be one of {', '.join(OBJECTIVES)}, but got {objective!r}")
    dataset, geometry = _dataset(document)
    listed = raw.get("configs")
    if not isinstance(listed, list) or not listed:
        document.fault(("configs",), f"must be a list of at least one config, but got {listed!r}")
    configs = [
        _config(document, number, item) for number, item in enumerate(listed if isinstance(listed, list) else [])
    ]
    document.raise_problems()
    return ConfigList(name, dataset, geometry, epochs, str(objective), [one for one in configs if one is not None])


def _dataset(document: Document) -> tuple[str, Geometry]:
    """Returns the name of the data set, and its images."""
    raw = document.data.get("dataset")
    if not isinstance(raw, dict):
        document.fault(("dataset",), f"must be a mapping of {', '.join(_DATASET_KEYS)}, but got {raw!r}")
        return "", Geometry(2, 1, 1)
    document.unknown_keys(("dataset",), raw, _DATASET_KEYS)
    name = document.validated(("dataset", "name"), raw.get("name"), str, "")
    forms = zip(_DATASET_KEYS[1:], (_Classes, Channels, Count), strict=True)
    sizes = [document.validated(("dataset", key), raw.get(key), form, 1) for key, form in forms]
    return name, Geometry(*sizes)


def _config(document: Document, number: int, raw: Any) -> ListedConfig | None:
    """Returns a config, or None if it has faults."""
    place, before = ("configs", number), len(document.problems)
    if not isinstance(raw, dict):
        document.fault(place, f"must be a mapping of {', '.join(_CONFIG_KEYS)}, but got {raw!r}")
        return None
    document.unknown_keys(place, raw, _CONFIG_KEYS)
    trial = document.validated((*place, "trial"), raw.get("trial"), Count, 1)
    seeds = document.validated((*place, "seeds"), raw.get("seeds"), _Number, 0)
    value = document.validated((*place, "value"), raw.get("value"), _Value, 0.0)
    if not isinstance(raw.get("values"), dict):
        document.fault((*place, "values"), f"must be a mapping, but got {raw.get('values')!r}")
    document.validated((*place, "augment"), raw.get("augment"), Augment, None)
    if len(document.problems) > before:
        return None
    _note_faults(document, (*place, "values"), raw["values"])
    return ListedConfig(trial, value, seeds, raw["values"], raw["augment"])


def _note_faults(document: Document, place: tuple[str | int, ...], values: dict[str, Any]) -> None:
    """Notes every fault of a config's values."""
    method = values.get(METHOD.name, CTKD)
    if fault := METHOD.fault(method):
        document.fault((*place, METHOD.name), fault)
        return
    if PAIR.name not in values:
        document.fault((*place, PAIR.name), "is missing")
    known = {name: item for name, item in parameters(Recipe(), (method,)).items() if name != AUGMENT}
    document.unknown_keys(place, values, tuple(known))
    for name, value in values.items():
        # A list of class weights is a setting that no space searches.
        weights = name == "class_weights" and isinstance(value, list)
        if name in known and not weights and (fault := known[name].fault(value)):
            document.fault((*place, name), fault)
    pair = values.get(PAIR.name, PAIR.default)
    # Networks of libraries, and of the user's own code, may be on another machine alone.
    if not PAIR.fault(pair) and not any(map(elsewhere, split_pair(pair))) and (fault := pair_fault(pair, ())):
        document.fault((*place, PAIR.name), fault)


def published_names() -> list[str]:
    """Returns the names of the searches whose best configs come with the package."""
    return sorted(path.stem for path in PUBLISHED.glob("*.yaml"))


def read_published(name: str) -> ConfigList:
    """Reads the best configs of a search that come with the package; `name` is one of `published_names`."""
    return read_list(PUBLISHED / f"{name}.yaml")
