"""Recordings of experts that trials still have to make, counted on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data.dataset import Splits
from ctkd_search.data.stream import derived_seed
from ctkd_search.distill.asked import asked_of_experts
from ctkd_search.distill.build import Experts
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recorded import MAPS, described, entry_of, record_of
from ctkd_search.distill.requests import Needs


class MissingRecordings:
    """A count of the expert epochs that trials need and no trial has recorded yet.

    Args:
        trials: A config of each kind of trial, and the needs of its method.
        splits: The images.
        cache: The teacher cache.
        device: Device that the trials compute on.
    """

    def __init__(
        self, trials: Iterable[tuple[TrialConfig, Needs]], splits: Splits, cache: TeacherCache, device: torch.device
    ) -> None:
        self._cache = cache
        self._limit = 0
        # The records of each epoch of each expert, by the expert's architecture.
        self._missing: dict[tuple[str, ...], str] = {}
        trials = list(trials)
        asked = asked_of_experts(trials)
        seen = set()
        for config, needs in trials:
            key = config.teacher, config.augment, config.seed, needs.anchors
            if config.teachers.mode == "live" or not needs.expert or key in seen:
                continue
            seen.add(key)
            self._limit = config.teachers.cache_bytes()
            self._add(config, Experts(config, splits, cache, device, needs.anchors, asked), splits.fingerprint)

    def _add(self, config: TrialConfig, experts: Experts, data: str) -> None:
        seed, kept = derived_seed("stream", config.seed), (config.teachers.storage, config.teachers.map_form)
        for epoch in range(config.epochs):
            entry = entry_of(described(experts.identity(epoch), seed, config.augment, data))
            names = tuple(record_of(entry, *kept, epoch, output) for output in experts.asked(epoch))
            if names:
                self._missing[names] = config.teacher

    def count(self) -> Counter[str]:
        """Returns the number of missing epochs by the expert's architecture; none if the cache is at its limit."""
        if self._missing and self._cache.index.size(MAPS) >= self._limit:
            return Counter()
        self._missing = {
            names: teacher
            for names, teacher in self._missing.items()
            if not all(self._cache.holds(name) for name in names)
        }
        return Counter(self._missing.values())
