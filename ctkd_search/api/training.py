"""Final training from Python."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from ctkd_search.api.callbacks import Callback, FinalListener, check_callbacks
from ctkd_search.api.final import FinalTraining
from ctkd_search.api.options import check_whole
from ctkd_search.api.search import Search
from ctkd_search.api.spaces import Overrides, PathLike, directory_of, path_of, plain_values, words
from ctkd_search.display.consoles import console_for
from ctkd_search.display.reading import shown_on
from ctkd_search.errors import UserError
from ctkd_search.fields import LARGEST_SEED
from ctkd_search.records.config_file import ConfigFile, config_in, read_config, with_changes
from ctkd_search.records.store import SearchFolder
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document

# A config: the path of a file that `Search.export` wrote, its content, or a search, whose best config is meant.
AnyConfig: TypeAlias = PathLike | Mapping[str, Any] | Search


def train(
    config: AnyConfig,
    *,
    seeds: int = 1,
    new_streams: bool = False,
    baselines: PathLike | Sequence[PathLike] | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    champion: bool = False,
    overrides: Overrides = (),
    address: str | None = None,
    tracking_uri: str | None = None,
    trials_dir: PathLike | None = None,
    callbacks: Callback | Sequence[Callback] | None = (),
    progress: bool | None = None,
) -> FinalTraining:
    """Trains a config to its end, on training and validation images, and tests its students once.

    Args:
        config: The path of a config that was exported, the content of such a file, or a `Search` for its best config.
        seeds: Number of students, each with its own seed.
        new_streams: Whether every seed has a stream and teachers of its own, and not only initial weights.
        baselines: Names of the baselines to compare with, and files of configs, which keep their own recipes, as in
            ``["student-alone", "tuned-kd.yaml"]``, or one of them; none if it is empty. None for student-alone, kd, at,
            scratch-only and ctkd-paper with several seeds, and no baseline with one.
        epochs: Number of epochs; None for the config's.
        seed: Seed of the stream and of the first student; None for the config's.
        device: ``cpu`` or ``cuda``; None for a GPU if there is one.
        resume: Whether to go on with the newest final training of this config.
        champion: Whether the student becomes the champion of its name in MLflow even if there is one already.
        overrides: Values of keys of ``resources`` and ``tracking``, as in ``{"resources.concurrent_trials": 1}``.
        address: Address of the Ray cluster to join; None for this machine, or for the Ray that this process has.
        tracking_uri: URI of MLflow; None for MLFLOW_TRACKING_URI, or a SQLite file in `trials_dir`.
        trials_dir: The directory of all searches; None for that of the search, or ``trials``.
        callbacks: Objects that are told of trainings and epochs, or one of them; see `Callback`.
        progress: True to print lines where there is neither a terminal nor a notebook, False to print nothing.

    Returns:
        The final training.

    Raises:
        UserError: Something must be changed first; the message says what, as that of the command line.
        WorkFailed: No student of the config was trained to the end, the disk is full, or MLflow did not come back.
        KeyboardInterrupt: The user stopped it; all results so far are kept, and ``resume=True`` goes on.
    """
    number = check_whole("seeds", seeds) or 1
    epochs = check_whole("epochs", epochs)
    seed = check_whole("seed", seed, 0, LARGEST_SEED)
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"device must be cpu or cuda, but got {device!r}")
    found = words(overrides)
    given = {"resources.address": address, "tracking.uri": tracking_uri}
    found = [*words({key: value for key, value in given.items() if value is not None}), *found]
    if trials_dir is None:
        trials_dir = config.trials_dir if isinstance(config, Search) else "trials"
    root = directory_of(trials_dir)
    console = console_for(progress)
    with shown_on(console):
        return train_config(
            _config_of(config),
            root,
            console,
            f"ctkd_search.train({_shown(config)}, resume=True, ...) with the same arguments",
            seeds=number,
            new_streams=new_streams,
            baselines=_listed(baselines),
            epochs=epochs,
            seed=seed,
            device=device,
            resume=resume,
            champion=champion,
            resources=found,
            callbacks=callbacks,
        )


def _listed(baselines: Any) -> list[str | Path] | None:
    """Returns names of baselines, and files of configs; words are split at commas as those of the command line.

    Raises:
        UserError: It is neither a name or path nor several.
    """
    if baselines is None:
        return None
    if isinstance(baselines, str):
        return list(split_words(baselines))
    found = [baselines] if isinstance(baselines, os.PathLike) else baselines
    if not isinstance(found, Iterable) or not all(isinstance(item, str | os.PathLike) for item in found):
        raise UserError(f"baselines must be names or paths of files, but got {baselines!r}")
    return [item if isinstance(item, str) else path_of(item, "a baseline") for item in found]


def split_words(words: str) -> list[str]:
    """Returns words that have commas between them."""
    return [word.strip() for word in words.split(",")]


def _shown(config: AnyConfig) -> str:
    if isinstance(config, Search):
        return f"ctkd_search.load({config.name!r})"
    return "config" if isinstance(config, Mapping) else repr(str(config))


def _config_of(config: AnyConfig) -> ConfigFile:
    if isinstance(config, Search):
        return config_in(Document(f"the best config of search {config.name!r}", config.config()))
    if isinstance(config, Mapping):
        return config_in(Document.of("the config", plain_values(config)))
    return read_config(path_of(config, "a config", "a path, a mapping or a Search"))


def train_config(
    read: ConfigFile,
    trials_dir: Path,
    console: Console,
    again: str,
    *,
    seeds: int,
    new_streams: bool,
    baselines: Sequence[str | Path] | None,
    epochs: int | None,
    seed: int | None,
    device: str | None,
    resume: bool,
    champion: bool,
    resources: Sequence[str],
    callbacks: Callback | Sequence[Callback] | None = (),
) -> FinalTraining:
    """Trains a config that has been read; the options are those of `train`.

    Args:
        read: The config.
        trials_dir: The directory of all searches.
        console: The console to print to.
        again: The command or the call that goes on with it, for messages.
        baselines: Names, and files of configs, or ``none`` alone; None for the default.
        resources: KEY=VALUE words of ``resources`` and ``tracking``.
    """
    asked = check_callbacks(callbacks)
    from ctkd_search.final.plan import make_plan
    from ctkd_search.resources import on_device
    from ctkd_search.space.reader import read_resources

    config = with_changes(read.config, epochs, seed)
    plan, notes = make_plan(read.name, config, seeds, new_streams, baselines, epochs)
    found, tracking = read_resources(resources)
    tracking = dataclasses.replace(tracking, experiment=tracking.experiment or read.experiment)
    found = on_device(found, device)
    # Torch is imported only now, after all checks of the options.
    from ctkd_search.final.run import FinalRequest, train_final

    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    told, stop = list[FinalListener](), threading.Event()

    def listeners(folder: SearchFolder, space: Space) -> list[FinalListener]:
        if asked:
            told.append(FinalListener(asked, FinalTraining(folder.path), space, stop))
        return told

    request = FinalRequest(
        *(plan, read.fingerprint, trials_dir, resume, again, found, tracking, champion),
        listeners=listeners,
        stop=stop,
    )
    try:
        return FinalTraining(train_final(request, console).path)
    finally:
        for listener in told:
            listener.work_ended()
