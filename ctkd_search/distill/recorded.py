"""Recorded teachers as a trial reads them: what is there is replayed, what is not is recorded first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data.dataset import Splits
from ctkd_search.data.stream import STREAM_VERSION, Plan, Stream
from ctkd_search.distill.asked import whole
from ctkd_search.distill.cache import TeacherCache, content_hash
from ctkd_search.distill.recording import TeacherRun, Wanted, prepare
from ctkd_search.distill.requests import COMPUTED, TeacherOutput
from ctkd_search.distill.teachers import Expert, expert_batch
from ctkd_search.leases.lease import try_acquire
from ctkd_search.metrics import RECORDED_EPOCHS, RECORDING_SECONDS, WAITING_SECONDS

MAPS = "maps"
# How often a trial looks whether another process has recorded an epoch.
_POLL_SECONDS = 0.2
_LIMIT_REACHED = (
    "what the expert says is computed in the trials: the teacher cache has reached its limit; "
    "ctkd-search cache remove makes room"
)


class Source(NamedTuple):
    """Where an expert comes from.

    Attributes:
        identity: What tells it from others.
        make: Makes it, when its words must be computed.
        asked: What any trial of the search asks of it, as far as that is known.
    """

    identity: str
    make: Callable[[], Expert]
    asked: tuple[TeacherOutput, ...] = ()


def described(identity: str, stream_seed: int, augment: Augment, data: str) -> dict[str, Any]:
    """All that determines what an expert says along a stream, as plain values.

    Args:
        identity: What tells the expert from others.
        stream_seed: Seed of the stream.
        augment: How it varies the images.
        data: Fingerprint of the training images.
    """
    return {"expert": identity, "stream": [STREAM_VERSION, stream_seed], "augment": augment.given(), "data": data}


def shelf_of(content: Mapping[str, Any]) -> str:
    """The name under which all that is described by `described` is kept."""
    return f"{MAPS}-{content_hash(content)}"


def record_of(shelf: str, storage: str, epoch: int, request: TeacherOutput) -> str:
    """The record of what was asked of the expert in an epoch."""
    what = {"logits": "logits", "attention": str(request.layer)}.get(request.kind, "-".join(map(str, request)))
    return f"{shelf}/maps-{storage}-{epoch:04d}-{what}"


class TeacherRecording:
    """What a trial reads of its recorded teachers. What is missing or damaged is recorded anew.

    An epoch is recorded by one process at a time, in one pass over it that takes down what any trial of the search
    asks for. A trial that comes meanwhile records a later epoch that nobody records yet, or waits. What is recorded
    does not depend on who does it.

    Args:
        stream: The stream of the trial.
        splits: The data, for recording anew.
        cache: Where the records are.
        scratch: The training that gave the trajectory, or None if its logits are not needed.
        storage: Type in which logits and maps are kept.
        architecture: The expert's architecture, for those who look.
        expert: The expert of an epoch, from 0; not called where nothing is asked of it.
        requests: What the trial asks of the expert.
        limit: Bytes of the expert's words in the cache beyond which no more are kept.
        epochs: Epochs of the trial; no later one is recorded.
    """

    def __init__(
        self,
        stream: Stream,
        splits: Splits,
        cache: TeacherCache,
        scratch: TeacherRun | None,
        storage: str,
        architecture: str,
        expert: Callable[[int], Source],
        requests: tuple[TeacherOutput, ...],
        limit: int,
        epochs: int,
    ) -> None:
        self.stream = stream
        self.splits = splits
        self.cache = cache
        self.scratch = scratch
        self.storage = storage
        self.requests = requests
        self.limit = limit
        self.epochs = epochs
        self.architecture = architecture
        self._source_of = expert
        self._experts: dict[str, Expert] = {}
        self._notes: list[str] = []
        self._noted: set[str] = set()
        self._spent: dict[str, float] = {}

    def logits(self, epoch: int) -> Tensor | None:
        """The scratch teacher's logits at every position of an epoch, or None if they are not needed."""
        if self.scratch is None:
            return None
        found = self.cache.read_array(self.scratch.logits(epoch, self.storage))
        if found is None:
            self._notes.append(f"the trajectory of {self.scratch.architecture} was damaged or removed: recorded anew")
            with self._clock(RECORDING_SECONDS):
                for _ in prepare(self.scratch, self.splits, self.cache, self.stream.device, Wanted(self.storage)):
                    pass
            found = self.cache.read_array(self.scratch.logits(epoch, self.storage))
            if found is None:
                raise OSError(f"what was just recorded in {self.cache.directory} cannot be read back")
        return self._on_device(found)

    def expert_outputs(self, epoch: int, plan: Plan) -> Mapping[TeacherOutput, Tensor] | Iterator[list[Tensor]]:
        """What the expert says at every position of an epoch, by request.

        What is not kept yet is recorded first, with all that other trials ask of this expert. Where the cache has
        reached its limit, and where what is asked for is too large to be kept, the words are computed, and come a few
        positions at a time.
        """
        while True:
            kept = self._kept(epoch)
            if kept is None and self._computes():
                return self._expert(epoch).says(
                    self.stream.batches(plan, expert_batch(self.stream.size)), self.requests
                )
            if kept is None:
                kept = self._record(epoch, plan)
            if kept is not None:
                self._note_use(self._shelf(epoch))
                return {request: self._on_device(kept[request]) for request in self.requests}
            if not self._record_ahead(epoch + 1):
                with self._clock(WAITING_SECONDS):
                    time.sleep(_POLL_SECONDS)

    def spent(self) -> dict[str, float]:
        """Returns what was spent since the last call that served other trials too, by metric; empty if nothing was."""
        spent, self._spent = self._spent, {}
        return spent

    def notes(self) -> list[str]:
        """Returns what the user should know about what was read since the last time."""
        notes, self._notes = self._notes, []
        return notes

    def _computes(self) -> bool:
        """Returns whether the trial computes what is not kept, and keeps nothing of it."""
        if any(request.kind in COMPUTED for request in self.requests):
            return True
        reached = self.cache.shelves.size(MAPS) >= self.limit
        if reached and self.limit and _LIMIT_REACHED not in self._notes:
            self._notes.append(_LIMIT_REACHED)
        return reached

    def _record(self, epoch: int, plan: Plan) -> dict[TeacherOutput, np.ndarray] | None:
        """Records an epoch, unless it is recorded by now; returns what the trial asks for.

        Returns:
            What was asked for; None if another process is recording that epoch.
        """
        shelf = self._shelf(epoch)
        what = f"recording what the expert {self.architecture} says in epoch {epoch + 1}"
        lease = try_acquire(self.cache.directory / shelf, f"maps-{self.storage}-{epoch:04d}", what)
        if lease is None:
            return None
        with lease:
            # Another process may have finished it since it was looked for.
            found = self._kept(epoch)
            if found is not None:
                return found
            with self._clock(RECORDING_SECONDS):
                recorded = self._pass(epoch, plan)
            self._spent[RECORDED_EPOCHS] = self._spent.get(RECORDED_EPOCHS, 0) + 1
            rest = self._kept(epoch, tuple(request for request in self.requests if request not in recorded))
            # What was there before the pass may have been removed since; it is looked for again.
            return None if rest is None else {**recorded, **rest}

    def _pass(self, epoch: int, plan: Plan) -> dict[TeacherOutput, np.ndarray]:
        """Goes over an epoch once, and keeps what any trial asks for and is not kept; returns all that it kept."""
        shelf, source, expert = self._shelf(epoch), self._source_of(epoch), self._expert(epoch)
        self.cache.shelves.describe(
            shelf, {"kind": "maps", "architecture": self.architecture, **self._described(epoch)}
        )
        asked = whole((*self.requests, *source.asked), expert.network.layers)
        wanted = [request for request in asked if self._name(epoch, request) not in self.cache]
        stored: dict[TeacherOutput, np.ndarray] = {}
        start = 0
        for pieces in expert.says(self.stream.batches(plan, expert_batch(self.stream.size)), wanted):
            for request, piece in zip(wanted, pieces, strict=True):
                if start == 0:
                    stored[request] = np.empty((len(self.stream), *piece.shape[1:]), dtype=self.storage)
                stored[request][start : start + len(piece)] = piece.cpu().numpy()
            start += len(pieces[0])
        for request, said in stored.items():
            self.cache.write(self._name(epoch, request), said)
        return stored

    def _record_ahead(self, first: int) -> bool:
        """Records the first of the later epochs that is neither kept nor being recorded; returns whether there is one.

        Each will be needed, and a trial that has to wait for another process has nothing better to do.
        """
        for epoch in range(first, self.epochs):
            if not self._is_kept(epoch) and self._record(epoch, self.stream.plan(epoch)) is not None:
                return True
        return False

    def _described(self, epoch: int) -> dict[str, Any]:
        """All that determines what the expert of an epoch says along the stream."""
        return described(
            self._source_of(epoch).identity, self.stream.seed, self.stream.augment, self.splits.fingerprint
        )

    def _shelf(self, epoch: int) -> str:
        return shelf_of(self._described(epoch))

    def _kept(
        self, epoch: int, requests: tuple[TeacherOutput, ...] | None = None
    ) -> dict[TeacherOutput, np.ndarray] | None:
        """Returns what is kept of some requests, or of those of the trial; None if one of them is not."""
        found = {}
        for request in self.requests if requests is None else requests:
            array = self.cache.read_array(self._name(epoch, request))
            if array is None:
                return None
            found[request] = array
        return found

    def _is_kept(self, epoch: int) -> bool:
        """Returns whether what the trial asks for of an epoch is there, its content not looked at."""
        return all(self.cache.holds(self._name(epoch, request)) for request in self.requests)

    def _note_use(self, shelf: str) -> None:
        if shelf not in self._noted:
            self.cache.note_use(shelf)
            self._noted.add(shelf)

    def _name(self, epoch: int, request: TeacherOutput) -> str:
        return record_of(self._shelf(epoch), self.storage, epoch, request)

    def _expert(self, epoch: int) -> Expert:
        source = self._source_of(epoch)
        if source.identity not in self._experts:
            self._experts = {source.identity: source.make()}
        return self._experts[source.identity]

    def _on_device(self, array: np.ndarray) -> Tensor:
        # On the CPU the pages of the file itself are read, as they are needed; to a GPU they go in one piece.
        return torch.from_numpy(array).to(self.stream.device)

    @contextmanager
    def _clock(self, metric: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent[metric] = self._spent.get(metric, 0.0) + time.perf_counter() - started
