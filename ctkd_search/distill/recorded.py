"""Recorded teachers as a trial reads them: existing recordings are replayed, missing ones are made first."""

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
from ctkd_search.data.stream import Plan, Stream, stream_version
from ctkd_search.distill.asked import whole
from ctkd_search.distill.cache import TeacherCache, content_hash
from ctkd_search.distill.expert import Ensemble, Expert, expert_batch
from ctkd_search.distill.recording import TeacherRun, Wanted, prepare
from ctkd_search.distill.requests import ATTENTION, COMPUTED, LOGITS, TeacherOutput
from ctkd_search.distill.stored_maps import pack_maps, unpack_maps
from ctkd_search.distill.top_logits import KeptLogits, pack_logits, unpack_logits
from ctkd_search.leases.lease import try_acquire
from ctkd_search.metrics import RECORDED_EPOCHS, RECORDING_SECONDS, WAITING_SECONDS
from ctkd_search.storage import MapForm, Storage, TopLogits, array_type

MAPS = "maps"
# Interval at which a trial checks whether another process has recorded an epoch.
_POLL_SECONDS = 0.2
_LIMIT_REACHED = (
    "the expert's outputs are computed in the trials and not recorded: the teacher cache has reached its limit; "
    "make room with: ctkd-search cache remove"
)


class Source(NamedTuple):
    """An expert that is loaded only if its outputs must be computed.

    Attributes:
        identity: Text that identifies it among experts.
        make: Loads it.
        asked: Outputs that any trial of the search needs of it, as far as they are known.
    """

    identity: str
    make: Callable[[], Expert | Ensemble]
    asked: tuple[TeacherOutput, ...] = ()


def described(identity: str, stream_seed: int, augment: Augment, data: str) -> dict[str, Any]:
    """Returns all that determines an expert's outputs along a stream, as plain values.

    Args:
        identity: Text that identifies the expert among experts.
        stream_seed: Seed of the stream.
        augment: Augmentation of the stream.
        data: Fingerprint of the training images.
    """
    return {
        "expert": identity,
        "stream": [stream_version(augment), stream_seed],
        "augment": augment.given(),
        "data": data,
    }


def entry_of(content: Mapping[str, Any]) -> str:
    """Returns the name of the cache entry for what `described` describes."""
    return f"{MAPS}-{content_hash(content)}"


def record_of(entry: str, storage: Storage, maps: MapForm, epoch: int, output: TeacherOutput) -> str:
    """Returns the name of the record of one output of the expert in an epoch."""
    other = maps.named(storage) if output.kind == ATTENTION else array_type(storage)
    kind = storage if output == LOGITS else other
    plain = {"logits": "logits", "embedding": "embedding", "attention": str(output.layer)}
    what = plain.get(output.kind, "-".join(map(str, output)))
    return f"{entry}/maps-{kind}-{epoch:04d}-{what}"


class TeacherRecording:
    """The recordings that a trial reads of its teachers. Missing or damaged ones are recorded again.

    An epoch is recorded by one process at a time, in one pass over it that records the outputs that any trial of the
    search needs. A trial that needs the epoch meanwhile records a later epoch that no process records yet, or waits.
    The recording does not depend on the process that makes it.

    Args:
        stream: Stream of the trial.
        splits: Data, for recording again.
        cache: The teacher cache.
        scratch: Training of the scratch teacher, or None if its logits are not needed.
        storage: Storage of the outputs.
        maps: Form of the attention maps.
        architecture: The expert's architecture, for the list of the cache.
        expert: Returns the expert of an epoch, from 0; not called if no outputs of it are needed.
        outputs: Outputs of the expert that the trial needs.
        limit: Bytes of expert outputs in the cache from which on no more are recorded.
        epochs: Epochs of the trial; no later one is recorded.
        average: Whether the logits of the scratch teacher's running average are needed too.
    """

    def __init__(
        self,
        stream: Stream,
        splits: Splits,
        cache: TeacherCache,
        scratch: TeacherRun | None,
        storage: Storage,
        maps: MapForm,
        architecture: str,
        expert: Callable[[int], Source],
        outputs: tuple[TeacherOutput, ...],
        limit: int,
        epochs: int,
        average: bool = False,
    ) -> None:
        self.stream = stream
        self.splits = splits
        self.cache = cache
        self.scratch = scratch
        self.storage = storage
        self.maps = maps
        self.outputs = outputs
        self.limit = limit
        self.epochs = epochs
        self.wanted = Wanted(storage, average=average)
        self.architecture = architecture
        self._source_of = expert
        self._experts: dict[str, Expert | Ensemble] = {}
        self._notes: list[str] = []
        self._noted: set[str] = set()
        self._spent: dict[str, float] = {}

    def logits(self, epoch: int) -> Tensor | None:
        """Returns the scratch teacher's logits at every position of an epoch, or None if they are not needed."""
        return None if self.scratch is None else self._of_scratch(self.scratch, self.scratch.logits, epoch)

    def average(self, epoch: int) -> Tensor | None:
        """Returns the logits of the scratch teacher's running average at every position, or None if not needed."""
        needed = self.scratch is not None and self.wanted.average
        return self._of_scratch(self.scratch, self.scratch.average, epoch) if self.scratch and needed else None

    def numbers(self, output: TeacherOutput, rows: Tensor) -> Tensor | KeptLogits:
        """Returns a teacher's outputs in float32, from rows as they are recorded."""
        if output.kind == ATTENTION:
            return unpack_maps(rows, self.maps)
        return unpack_logits(rows, self.storage) if output == LOGITS else rows.float()

    def _of_scratch(self, run: TeacherRun, name: Callable[[int, Storage], str], epoch: int) -> Tensor:
        """Returns a record of the scratch teacher in an epoch."""
        found = self.cache.read_array(name(epoch, self.storage))
        if found is None:
            self._notes.append(
                f"the recorded logits of {run.architecture} were damaged or removed, and are recorded again"
            )
            with self._clock(RECORDING_SECONDS):
                for _ in prepare(run, self.splits, self.cache, self.stream.device, self.wanted):
                    pass
            found = self.cache.read_array(name(epoch, self.storage))
            if found is None:
                raise OSError(f"the logits just recorded in {self.cache.directory} cannot be read back")
        return self._on_device(found)

    def expert_outputs(self, epoch: int, plan: Plan) -> Mapping[TeacherOutput, Tensor] | Iterator[list[Tensor]]:
        """Returns the expert's outputs at every position of an epoch.

        Missing ones are recorded first, together with those that other trials need of this expert. If the cache has
        reached its limit, or if an output is too large to be recorded, they are computed a few positions at a time.
        """
        while True:
            kept = self._kept(epoch)
            if kept is None and self._computes():
                return self._computed(epoch, plan)
            if kept is None:
                kept = self._record(epoch, plan)
            if kept is not None:
                self._note_use(self._entry(epoch))
                return {output: self._on_device(kept[output]) for output in self.outputs}
            if not self._record_ahead(epoch + 1):
                with self._clock(WAITING_SECONDS):
                    time.sleep(_POLL_SECONDS)

    def spent(self) -> dict[str, float]:
        """Returns the time spent since the last call that serves other trials too, by metric; empty if none was."""
        spent, self._spent = self._spent, {}
        return spent

    def notes(self) -> list[str]:
        """Returns notes for the user about what was read since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def _computed(self, epoch: int, plan: Plan) -> Iterator[list[Tensor]]:
        """Returns the expert's outputs a few positions at a time; what is recorded in part comes as it is recorded."""
        # Both before a lesson is taken: a trained expert may decode images of its own, and readers of one plan share
        # what is decoded only from its first image on.
        expert = self._expert(epoch)
        batches = self.stream.batches(plan, expert_batch(self.stream.size))

        def outputs() -> Iterator[list[Tensor]]:
            for pieces in expert.outputs(batches, self.outputs):
                yield [
                    self._on_device(self._rows(output, piece)) if self._in_part(output) else piece
                    for output, piece in zip(self.outputs, pieces, strict=True)
                ]

        return outputs()

    def _in_part(self, output: TeacherOutput) -> bool:
        """Returns whether less than the numbers of an output is recorded."""
        if output.kind == ATTENTION:
            return self.maps != MapForm()
        return output == LOGITS and isinstance(self.storage, TopLogits)

    def _rows(self, output: TeacherOutput, piece: Tensor) -> np.ndarray:
        """Returns an output as it is recorded."""
        if output == LOGITS:
            return pack_logits(piece, self.storage)
        if output.kind == ATTENTION:
            return pack_maps(piece, self.maps, self.storage)
        return piece.cpu().numpy().astype(array_type(self.storage))

    def _computes(self) -> bool:
        """Returns whether the trial computes missing outputs without recording them."""
        if any(output.kind in COMPUTED for output in self.outputs):
            return True
        reached = self.cache.index.size(MAPS) >= self.limit
        if reached and self.limit and _LIMIT_REACHED not in self._notes:
            self._notes.append(_LIMIT_REACHED)
        return reached

    def _record(self, epoch: int, plan: Plan) -> dict[TeacherOutput, np.ndarray] | None:
        """Records an epoch, unless it is recorded by now.

        Returns:
            The outputs that the trial needs; None if another process is recording that epoch.
        """
        entry = self._entry(epoch)
        what = f"the recording of expert {self.architecture} in epoch {epoch + 1}"
        form = "" if self.maps == MapForm() else f"-{self.maps.named(self.storage)}"
        lease = try_acquire(self.cache.directory / entry, f"maps-{self.storage}{form}-{epoch:04d}", what)
        if lease is None:
            return None
        with lease:
            # Another process may have finished it since the cache was read.
            found = self._kept(epoch)
            if found is not None:
                return found
            with self._clock(RECORDING_SECONDS):
                recorded = self._pass(epoch, plan)
            self._spent[RECORDED_EPOCHS] = self._spent.get(RECORDED_EPOCHS, 0) + 1
            rest = self._kept(epoch, tuple(output for output in self.outputs if output not in recorded))
            # Outputs recorded before the pass may have been removed since; then all are read again.
            return None if rest is None else {**recorded, **rest}

    def _pass(self, epoch: int, plan: Plan) -> dict[TeacherOutput, np.ndarray]:
        """Records in one pass over an epoch the missing outputs that any trial needs; returns those recorded."""
        entry, source, expert = self._entry(epoch), self._source_of(epoch), self._expert(epoch)
        self.cache.index.describe(entry, {"kind": "maps", "architecture": self.architecture, **self._described(epoch)})
        asked = whole((*self.outputs, *source.asked), expert.layers)
        wanted = [output for output in asked if self._name(epoch, output) not in self.cache]
        stored: dict[TeacherOutput, np.ndarray] = {}
        start = 0
        for pieces in expert.outputs(self.stream.batches(plan, expert_batch(self.stream.size)), wanted):
            for output, piece in zip(wanted, pieces, strict=True):
                rows = self._rows(output, piece)
                if start == 0:
                    stored[output] = np.empty((len(self.stream), *rows.shape[1:]), dtype=rows.dtype)
                stored[output][start : start + len(rows)] = rows
            start += len(pieces[0])
        for output, values in stored.items():
            self.cache.write(self._name(epoch, output), values)
        return stored

    def _record_ahead(self, first: int) -> bool:
        """Records the first of the later epochs that is neither kept nor being recorded; returns whether there is one.

        Each will be needed, and the trial would otherwise wait for another process.
        """
        for epoch in range(first, self.epochs):
            if not self._is_kept(epoch) and self._record(epoch, self.stream.plan(epoch)) is not None:
                return True
        return False

    def _described(self, epoch: int) -> dict[str, Any]:
        """Returns all that determines the outputs of an epoch's expert along the stream."""
        return described(
            self._source_of(epoch).identity, self.stream.seed, self.stream.augment, self.splits.fingerprint
        )

    def _entry(self, epoch: int) -> str:
        return entry_of(self._described(epoch))

    def _kept(
        self, epoch: int, outputs: tuple[TeacherOutput, ...] | None = None
    ) -> dict[TeacherOutput, np.ndarray] | None:
        """Returns recorded outputs, by default those that the trial needs; None if one of them is missing."""
        found = {}
        for output in self.outputs if outputs is None else outputs:
            array = self.cache.read_array(self._name(epoch, output))
            if array is None:
                return None
            found[output] = array
        return found

    def _is_kept(self, epoch: int) -> bool:
        """Returns whether the outputs that the trial needs of an epoch are recorded, without reading them."""
        return all(self.cache.holds(self._name(epoch, output)) for output in self.outputs)

    def _note_use(self, entry: str) -> None:
        if entry not in self._noted:
            self.cache.note_use(entry)
            self._noted.add(entry)

    def _name(self, epoch: int, output: TeacherOutput) -> str:
        return record_of(self._entry(epoch), self.storage, self.maps, epoch, output)

    def _expert(self, epoch: int) -> Expert | Ensemble:
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
