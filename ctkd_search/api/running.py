"""Searching a space, and checking one, from Python."""

from __future__ import annotations

import html
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console

from ctkd_search.api.callbacks import Callback, CallbackListener, check_callbacks
from ctkd_search.api.search import Search
from ctkd_search.api.spaces import AnySpace, Overrides, PathLike, directory_of, open_space
from ctkd_search.display.consoles import PLAIN_WIDTH, console_for, text_console
from ctkd_search.display.reading import shown_on
from ctkd_search.errors import UserError
from ctkd_search.names import check_name
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document

if TYPE_CHECKING:
    from ctkd_search.checks.report import Costs

# Earlier searches to begin from, or one: names, searches, and files of best configs.
WarmStarts: TypeAlias = PathLike | Search | Sequence[PathLike | Search] | None


def run(
    space: AnySpace,
    *,
    name: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    time_budget: str | float | None = None,
    test_share: float | None = None,
    overrides: Overrides = (),
    resume: bool = False,
    warm_start: WarmStarts = (),
    champion: bool = False,
    address: str | None = None,
    tracking_uri: str | None = None,
    trials_dir: PathLike | None = "trials",
    callbacks: Callback | Sequence[Callback] | None = (),
    progress: bool | None = None,
) -> Search:
    """Searches a space, or goes on with a search.

    Ray is started on this machine and stopped at the end; if this process has called ``ray.init`` before, that Ray is
    used and left running. In the main thread, the first Ctrl-C, or the first interrupt of a notebook's kernel, stops
    the trials and closes everything, and then raises KeyboardInterrupt; a second one does so at once. In other threads
    no signal is handled.

    Args:
        space: The path of a space's file, the content of such a file, or a `Space`.
        name: Name of the search; None for the space's name.
        trials: Number of trials; None for the space's.
        epochs: Number of epochs of a trial that is not stopped early; None for the space's.
        time_budget: The time after which the search ends, as in ``2h`` or ``1h30m``, or in seconds; None for the
            space's.
        test_share: Share of the images kept apart from the search for the test of the final training, for images of
            your own without test images; None for the space's.
        overrides: Values of any keys of the space by their dotted names, as in ``{"train.batch_size": 64}``, or words
            as ``--set`` takes them; they take precedence over the other options.
        resume: Whether to go on with an interrupted search.
        warm_start: Earlier searches to begin from: their names, a `Search`, or files of their best configs; or one of
            them.
        champion: Whether the student becomes the champion of its name in MLflow even if it is not better.
        address: Address of the Ray cluster to join; None for this machine, or for the Ray that this process has.
        tracking_uri: URI of MLflow; None for MLFLOW_TRACKING_URI, or a SQLite file in `trials_dir`.
        trials_dir: The directory of all searches; None for ``trials``.
        callbacks: Objects that are told of trials and epochs, and that may stop the search, or one of them; see
            `Callback`.
        progress: Progress is shown in a terminal and in a notebook; True to print lines elsewhere too, False to print
            nothing.

    Returns:
        The search.

    Raises:
        UserError: Something must be changed first; the message says what, as that of the command line.
        WorkFailed: No trial came to a result, the disk is full, or MLflow did not answer again.
        KeyboardInterrupt: The user stopped it; all results so far are kept, and ``resume=True`` goes on.
    """
    read, document = open_space(
        space,
        overrides,
        budget__trials=trials,
        budget__epochs=epochs,
        budget__time_budget=time_budget,
        dataset__test=test_share,
        resources__address=address,
        tracking__uri=tracking_uri,
    )
    given = {
        "name": name,
        "trials": trials,
        "epochs": epochs,
        "time_budget": time_budget,
        "test_share": test_share,
        "overrides": overrides or None,
        "champion": champion or None,
        "address": address,
        "tracking_uri": tracking_uri,
    }
    where = "trials" if trials_dir is None else trials_dir
    root = directory_of(where)
    console = console_for(progress)
    with shown_on(console):
        return run_space(
            read,
            document,
            console,
            _call_again(space, given, where),
            name=name,
            trials_dir=root,
            resume=resume,
            warm_start=_starts(warm_start, root),
            champion=champion,
            callbacks=callbacks,
        )


def _starts(given: WarmStarts, root: Path) -> list[str]:
    """Returns earlier searches as the command line names them.

    Raises:
        UserError: One is neither a name, a file nor a search, or is in another directory.
    """
    found = [given] if isinstance(given, str | os.PathLike | Search) else () if given is None else given
    if not isinstance(found, Iterable) or not all(isinstance(item, str | os.PathLike | Search) for item in found):
        raise UserError(f"warm_start must be names of searches, or files of their best configs, but got {given!r}")
    for item in found:
        if isinstance(item, Search) and item.trials_dir.resolve() != root.resolve():
            raise UserError(
                f"warm_start: search {item.name!r} is in {item.trials_dir}, not in {root}; write its best configs with "
                "export(path, format='configs'), and give that path"
            )
    return [item.name if isinstance(item, Search) else os.fspath(item) for item in found]


def _call_again(space: AnySpace, given: Mapping[str, Any], trials_dir: PathLike) -> str:
    """Returns the call that goes on with a search."""
    shown = repr(os.fspath(space)) if isinstance(space, str | os.PathLike) else "space"
    kept = [f"{key}={value!r}" for key, value in given.items() if value is not None]
    if os.fspath(trials_dir) != "trials":
        kept.append(f"trials_dir={os.fspath(trials_dir)!r}")
    return f"ctkd_search.run({', '.join([shown, *kept, 'resume=True'])})"


def run_space(
    space: Space,
    document: Document,
    console: Console,
    again: str,
    *,
    name: str | None,
    trials_dir: Path,
    resume: bool,
    warm_start: Sequence[str],
    champion: bool,
    callbacks: Callback | Sequence[Callback] | None = (),
    ask: Callable[[str], bool] | None = None,
) -> Search:
    """Searches a space that has been read; the options are those of `run`.

    Args:
        space: The space.
        document: Its document, for messages.
        console: The console to print to.
        again: The command or the call that goes on with the search, for messages.
        ask: Asks the user a yes-or-no question; None where nobody can answer.
    """
    from ctkd_search.search.run import SearchRequest, run_search

    asked = check_callbacks(callbacks)
    name = space.name if name is None else check_name(name)
    search, stop = Search(name, trials_dir), threading.Event()
    told = CallbackListener(asked, search, space, stop)
    listeners = [told] if asked else []
    request = SearchRequest(
        *(space, name, trials_dir, resume, again, warm_start, ask, document, champion),
        listeners=listeners,
        stop=stop,
    )
    try:
        run_search(request, console)
    finally:
        told.work_ended()
    return search


@dataclass(frozen=True)
class Check:
    """The result of `check`: an estimate of the costs of a search. Printed and shown, it is the text of the command.

    Attributes:
        space: The space.
        text: What ``ctkd-search check`` prints.
        seconds: The estimated time of the search on this machine, at least and at most; None if it was not estimated.
        disk_bytes: The size of the recordings of teachers at most; None if the number of images is not known.
    """

    space: Space
    text: str
    seconds: tuple[float, float] | None
    disk_bytes: int | None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Check of space {self.space.name!r}: seconds={self.seconds}, disk_bytes={self.disk_bytes}>"

    def _repr_html_(self) -> str:
        """Returns the text in HTML; notebooks call it."""
        return f"<pre>{html.escape(self.text)}</pre>"


def check(
    space: AnySpace,
    *,
    trials: int | None = None,
    epochs: int | None = None,
    test_share: float | None = None,
    overrides: Overrides = (),
    measure: bool = True,
    trials_dir: PathLike | None = "trials",
) -> Check:
    """Checks what a space would search and what it would cost; trains nothing.

    Args:
        space: The path of a space's file, the content of such a file, or a `Space`.
        trials: Number of trials; None for the space's.
        epochs: Number of epochs of a trial; None for the space's.
        test_share: See `run`.
        overrides: See `run`.
        measure: Whether to time a few steps on this machine, for about ten seconds, to estimate the search's time.
        trials_dir: The directory of all searches; None for ``trials``.

    Returns:
        The estimate, and the text that the command prints.

    Raises:
        UserError: Something in the space cannot work; the message lists every fault.
    """
    read, document = open_space(
        space, overrides, budget__trials=trials, budget__epochs=epochs, dataset__test=test_share
    )
    console, text = text_console(PLAIN_WIDTH)
    root = directory_of("trials" if trials_dir is None else trials_dir)
    checked = check_space(read, document, root, measure, console)
    return Check(read, text.getvalue(), checked.seconds, checked.disk_bytes)


def check_space(space: Space, document: Document, trials_dir: Path, measure: bool, console: Console) -> Costs:
    """Prints what a space that has been read would search and cost; returns the costs. See `check`."""
    from ctkd_search.checks.overview import print_overview
    from ctkd_search.tracking.store import refuse_place, store_uri

    refuse_place(store_uri(space.tracking.uri, trials_dir), trials_dir)
    print_overview(space, console)
    # Torch is imported only now, after every fault of the file has been reported.
    from ctkd_search.checks.report import print_check

    return print_check(space, document, trials_dir, measure, console)
