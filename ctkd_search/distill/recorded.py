"""Recorded teachers as a trial reads them: what is there is replayed, what is not is recorded first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctkd_search.data.registry import Splits
from ctkd_search.data.stream import STREAM_VERSION, Plan, Stream
from ctkd_search.distill.cache import TeacherCache, content_hash
from ctkd_search.distill.methods.base import COMPUTED, LOGITS, Request
from ctkd_search.distill.recording import TeacherRun, Wanted, prepare
from ctkd_search.distill.teachers import Expert, expert_batch

MAPS = "maps"
_LIMIT_REACHED = (
    "what the expert says is computed in the trials: the teacher cache has reached its limit; "
    "ctkd-search cache remove makes room"
)


class Source(NamedTuple):
    """Where an expert comes from.

    Attributes:
        identity: What tells it from others.
        make: Makes it, when its words must be computed.
    """

    identity: str
    make: Callable[[], Expert]


class TeacherRecording:
    """What a trial reads of its recorded teachers. What is missing or damaged is recorded anew.

    Args:
        stream: The stream of the trial.
        splits: The data, for recording anew.
        cache: Where the records are.
        scratch: The training that gave the trajectory, or None if its logits are not needed.
        storage: Type in which logits and maps are kept.
        architecture: The expert's architecture, for those who look.
        expert: The expert of an epoch, from 0; not called where nothing is asked of it.
        requests: What the expert is asked for.
        limit: Bytes of the expert's words in the cache beyond which no more are kept.
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
        requests: tuple[Request, ...],
        limit: int,
    ) -> None:
        self.stream = stream
        self.splits = splits
        self.cache = cache
        self.scratch = scratch
        self.storage = storage
        self.requests = requests
        self.limit = limit
        self.architecture = architecture
        self._source_of = expert
        self._experts: dict[str, Expert] = {}
        self._notes: list[str] = []
        self._noted: set[str] = set()

    def logits(self, epoch: int) -> Tensor | None:
        """The scratch teacher's logits at every position of an epoch, or None if they are not needed."""
        if self.scratch is None:
            return None
        found = self.cache.read_array(self.scratch.logits(epoch, self.storage))
        if found is None:
            self._notes.append(f"the trajectory of {self.scratch.architecture} was damaged or removed: recorded anew")
            for _ in prepare(self.scratch, self.splits, self.cache, self.stream.device, Wanted(self.storage)):
                pass
            found = self.cache.read_array(self.scratch.logits(epoch, self.storage))
            assert found is not None  # it has just been written
        return self._on_device(found)

    def expert_says(self, epoch: int, plan: Plan) -> Mapping[Request, Tensor] | Iterator[list[Tensor]]:
        """What the expert says at every position of an epoch, by request.

        The first trial that needs it computes and keeps it: where a layer is asked for, the same of every layer at
        once, because going through the expert is what costs. Where the cache has reached its limit, and where what is
        asked for is too large to be kept, its words are computed, and come a few positions at a time.
        """
        shelf = self._shelf(epoch)
        kept = self._kept(shelf, epoch, self.requests)
        if kept is not None:
            self._note_use(shelf)
            return kept
        expert = self._expert(epoch)
        batches = self.stream.batches(plan, expert_batch(self.stream.size))
        reached = self.cache.shelves.size(MAPS) >= self.limit
        if reached or any(request.kind in COMPUTED for request in self.requests):
            if reached and self.limit:
                self._notes.append(_LIMIT_REACHED)
            return expert.says(batches, self.requests)
        self.cache.shelves.describe(
            shelf, {"kind": "maps", "architecture": self.architecture, **self._described(epoch)}
        )
        wanted = whole(self.requests, expert.network.layers)
        stored: dict[Request, np.ndarray] = {}
        start = 0
        for pieces in expert.says(batches, wanted):
            for request, piece in zip(wanted, pieces, strict=True):
                if start == 0:
                    stored[request] = np.empty((len(self.stream), *piece.shape[1:]), dtype=self.storage)
                stored[request][start : start + len(piece)] = piece.cpu().numpy()
            start += len(pieces[0])
        for request, said in stored.items():
            self.cache.write(self._name(shelf, epoch, request), said)
        self._note_use(shelf)
        return {request: self._on_device(stored[request]) for request in self.requests}

    def notes(self) -> list[str]:
        """What the user should know about what was read since the last time."""
        notes, self._notes = self._notes, []
        return notes

    def _described(self, epoch: int) -> dict[str, Any]:
        """All that determines what the expert of an epoch says along the stream."""
        return {
            "expert": self._source_of(epoch).identity,
            "stream": [STREAM_VERSION, self.stream.seed],
            "augment": self.stream.augment.given(),
            "data": self.splits.fingerprint,
        }

    def _shelf(self, epoch: int) -> str:
        return f"{MAPS}-{content_hash(self._described(epoch))}"

    def _kept(self, shelf: str, epoch: int, requests: tuple[Request, ...]) -> dict[Request, Tensor] | None:
        found = {request: self.cache.read_array(self._name(shelf, epoch, request)) for request in requests}
        present = {request: array for request, array in found.items() if array is not None}
        if len(present) < len(found):
            return None
        return {request: self._on_device(array) for request, array in present.items()}

    def _note_use(self, shelf: str) -> None:
        if shelf not in self._noted:
            self.cache.note_use(shelf)
            self._noted.add(shelf)

    def _name(self, shelf: str, epoch: int, request: Request) -> str:
        what = {"logits": "logits", "attention": str(request.layer)}.get(request.kind, "-".join(map(str, request)))
        return f"{shelf}/maps-{self.storage}-{epoch:04d}-{what}"

    def _expert(self, epoch: int) -> Expert:
        source = self._source_of(epoch)
        if source.identity not in self._experts:
            self._experts = {source.identity: source.make()}
        return self._experts[source.identity]

    def _on_device(self, array: np.ndarray) -> Tensor:
        # On the CPU the pages of the file itself are read, as they are needed; to a GPU they go in one piece.
        return torch.from_numpy(array).to(self.stream.device)


def whole(requests: Sequence[Request], layers: Sequence[int]) -> tuple[Request, ...]:
    """What is recorded where something is asked for: the same of every layer, and the logits, which are small."""
    kinds = dict.fromkeys(request.kind for request in requests if request != LOGITS)
    return (LOGITS, *(Request(kind, layer) for kind in kinds for layer in layers))
