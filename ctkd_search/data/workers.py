"""Processes that decode image files: a DataLoader whose sampler yields descriptions of the work."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ctkd_search.data.crops import random_crop
from ctkd_search.data.decode import decode_image, decode_random_crop
from ctkd_search.data.picture_form import Kept
from ctkd_search.data.picture_store import Place, read_picture
from ctkd_search.data.slots import Slots, shared_slots
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.text import one_line

# Pieces of work that each process may be ahead.
_AHEAD = 2


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        paths: The files.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for colour.
        resize: See `decode_image`.
        scale: Smallest and largest share of the area of a random resized crop; None for the centred square.
        crops: Seed of the crop of each file.
        flipped: True for each file whose crop is mirrored.
        kept: The form of stored pictures; of random crops, that from which they are cut. None to cut them from files.
        places: Where each picture is stored in that form; those that are not are made from their files.
        each: Files for each image of the result; those that occur twice are decoded once.
    """

    paths: list[str]
    size: int
    channels: int
    resize: int | None = None
    scale: tuple[float, float] | None = None
    crops: tuple[int, ...] = ()
    flipped: tuple[bool, ...] = ()
    kept: Kept | None = None
    places: tuple[Place, ...] = ()
    each: int = 1

    def done(self) -> Tensor:
        """The images, uint8 of shape (files, size, size, channels), or (files / each, each, size, size, channels).

        Raises:
            UserError: A file is not an image, or damaged.
        """
        nothing = (0,) * len(self.paths)
        views = zip(self.paths, self.crops or nothing, self.flipped or nothing, strict=True)
        images = torch.empty((len(self.paths), self.size, self.size, self.channels), dtype=torch.uint8)
        first: dict[Any, int] = {}
        for number, view in enumerate(views):
            if view in first:
                images[number] = images[first[view]]
            else:
                first[view] = number
                images[number] = self._image(number)
        return images if self.each == 1 else images.unflatten(0, (-1, self.each))

    def _image(self, number: int) -> Tensor:
        path, kept = self.paths[number], self.kept
        stored = None if kept is None else read_picture(self.places[number] if self.places else None, kept)
        if self.scale is None:
            square = decode_image(path, self.size, self.channels, self.resize) if stored is None else stored
            return torch.from_numpy(square)
        seed = self.crops[number]
        if kept is None:
            cut = decode_random_crop(path, self.size, self.channels, self.scale, seed)
        else:
            whole = torch.from_numpy(kept.from_file(path) if stored is None else stored)
            cut = random_crop(whole, self.size, self.scale, seed)
        return cut.flip(1) if self.flipped and self.flipped[number] else cut


class _Decoder(Dataset[Any]):
    """A data set for DataLoader whose index is the work itself, so that its processes serve any data set.

    Args:
        slots: The slots that results are written to; None to send them.
    """

    def __init__(self, slots: Slots | None) -> None:
        self._slots = slots

    def __getitem__(self, work: tuple[int, Job]) -> Tensor | list[int] | str:
        """Returns the images of a job, or where they are in shared memory; a message if it cannot be done."""
        slot, job = work
        try:
            images = job.done()
            return images if self._slots is None else self._slots.put(slot, images)
        except UserError as error:
            # As a value: DataLoader would wrap the exception into the traceback of its process.
            return str(error)


def _end_with_parent(worker: int) -> None:
    """Ends this process as soon as the one that it decodes for ends, for whatever reason.

    DataLoader itself watches the process that forked this one, a fork server that stays while it has children.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in processes of a pool only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Flag:
    """An event without a lock, for the context of decoding processes.

    A process that is killed while it looks at an event of `multiprocessing` holds the event's lock for ever. Whoever
    looks next never comes back: DataLoader, to see whether its processes have died.
    """

    def __init__(self) -> None:
        self._raised = torch.zeros(1, dtype=torch.uint8).share_memory_()

    def is_set(self) -> bool:
        """Returns whether it has been set."""
        return bool(self._raised.item())

    def set(self) -> None:
        """Sets it."""
        self._raised.fill_(1)


class _Context(ForkServerContext):
    """The way in which decoding processes are started: from a server.

    Neither by a fork, which would copy the threads' locks of Ray and of CUDA in whatever state they are, nor as a new
    interpreter for each process, which would import torch each time.
    """

    def Event(self) -> _Flag:  # type: ignore[override]
        """Returns the event that tells the processes to end."""
        return _Flag()


class _Jobs(Sampler[tuple[int, Job]]):
    """A sampler of the work of one run after the other, each piece with the number of its slot.

    Args:
        slots: Number of slots, which are used in turn.
    """

    def __init__(self, slots: int) -> None:
        self.jobs: Iterable[Job] = ()
        self._slots = slots

    def __iter__(self) -> Iterator[tuple[int, Job]]:
        """Returns the work of this run."""
        return zip(itertools.cycle(range(self._slots)), self.jobs)


class DecodingPool:
    """Processes that decode, kept from one run to the next.

    Args:
        workers: Number of processes; with 0 this process decodes.
        pinned: Whether the results are in pinned memory, from which a GPU copies by itself.
    """

    def __init__(self, workers: int, pinned: bool) -> None:
        self.workers = workers
        self.pinned = pinned
        # As many results as may be outstanding, and the one that is being copied.
        count = workers * _AHEAD + 1
        # Where results are pinned they are copied anyway, by a thread of DataLoader.
        self._slots = shared_slots(count) if workers and not pinned else None
        self._sampler = _Jobs(count)
        self._run = 0
        several: dict[str, Any] = {}
        if workers:
            context = _Context()
            context.set_forkserver_preload([__name__, "ctkd_search.data.crops"])
            several = {
                "multiprocessing_context": context,
                "worker_init_fn": _end_with_parent,
                "persistent_workers": True,
                "prefetch_factor": _AHEAD,
            }
        self._loader: DataLoader[Any] | None = DataLoader(
            _Decoder(self._slots),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            pin_memory=pinned,
            # Its own generator, so that torch's global random state does not change.
            generator=torch.Generator(),
            **several,
        )

    def run(self, jobs: Iterable[Job]) -> Iterator[Tensor]:
        """Does jobs in their order; at most two for each process are ahead of the results taken.

        A new run ends the one before it.

        Yields:
            The result of each job.

        Raises:
            UserError: A file is not an image, or damaged.
            WorkFailed: A process died.
        """
        assert self._loader is not None
        self._run += 1
        run, self._sampler.jobs = self._run, jobs
        # Processes that are kept answer here before they begin the run.
        with self._deaths_told(), _no_main() if self.workers else _nothing():
            results = iter(self._loader)
        while True:
            if run != self._run:
                raise RuntimeError("this run of the decoding processes has been ended by another one")
            with self._deaths_told():
                result = next(results, None)
            if result is None:
                return
            if isinstance(result, str):
                raise UserError(result)
            yield result if self._slots is None else self._slots.take(result)

    @contextmanager
    def _deaths_told(self) -> Iterator[None]:
        """Closes the pool and raises WorkFailed where DataLoader notices that a process died."""
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            self.close()
            reason = one_line(str(error) or repr(error))
            raise WorkFailed(
                f"a process that decodes images died ({reason}); if memory is short, lower dataset.workers"
            ) from None

    def close(self) -> None:
        """Ends the processes."""
        if self._loader is not None and self._loader._iterator is not None:
            self._loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        self._loader = self._slots = None

    @property
    def closed(self) -> bool:
        """Returns whether the processes have ended."""
        return self._loader is None


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _no_main() -> Iterator[None]:
    """Hides the main module: new processes would run it again, and with it all that Ray's workers import."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_pool: DecodingPool | None = None


def decoding_pool(workers: int | None, pinned: bool) -> DecodingPool:
    """Returns the pool of this process, which is kept from trial to trial.

    Args:
        workers: Number of processes; None for one for each thread that torch computes with here.
        pinned: See `DecodingPool`.
    """
    global _pool
    count = torch.get_num_threads() if workers is None else workers
    if _pool is None or _pool.closed or (_pool.workers, _pool.pinned) != (count, pinned):
        if _pool is not None:
            _pool.close()
        _pool = DecodingPool(count, pinned)
    return _pool
