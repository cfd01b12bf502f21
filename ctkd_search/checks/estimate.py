"""An estimate of a search's time, computed from the measured time of single steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ctkd_search.analysis.stopping import Span, early_stopping
from ctkd_search.checks.measure import Speeds, learner
from ctkd_search.config import TrialConfig
from ctkd_search.distill.asked import augmented_teacher, passes_of_teachers
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import COMPUTED
from ctkd_search.space.baselines import baseline_pairs
from ctkd_search.space.comparisons import baseline_config, each_needs_with_baselines, needs_with_baselines
from ctkd_search.space.definition import Space
from ctkd_search.space.teacher_mode import confirmed_teachers

# Fixed overheads, in seconds: the start of a worker process, the recording of an epoch, the start of a search (Ray) and
# its end (registration of the student, report). Measured in a search of the digits on two cores; on other machines they
# are guesses, which matter only for small searches.
_ACTOR, _EPOCH, _BEGIN, _END = 6.0, 0.04, 10.0, 7.0


@dataclass(frozen=True)
class Load:
    """The work of a search.

    Attributes:
        images: Training images.
        validation: Validation images.
        concurrent: Trials at once.
        teachers: Teachers that are trained at once.
        beyond: Share of the experts' outputs beyond the limit of the cache, which every trial computes itself.
    """

    images: int
    validation: int
    concurrent: int
    teachers: int
    beyond: float = 0.0


def estimate(space: Space, speeds: Speeds, load: Load) -> dict[str, Span]:
    """Estimates the time of each part of a search, in the order in which they run, with all teachers to be trained.

    Args:
        space: The space.
        speeds: The measured speeds of its networks.
        load: The work of the search.
    """
    clock = _Clock(space, speeds, load)
    configs = searched_configs(space)
    budget, strategy = space.budget, space.strategy
    found = {"Ray's start": _always(_BEGIN)}
    teachers = space.trained_teachers()
    found["teachers"] = _always(clock.teachers(teachers))
    epochs = early_stopping(space)
    each = sum(map(clock.epoch, configs)) / len(configs)
    longest = budget.epochs * max(map(clock.epoch, configs))

    def side_by_side(seconds: float, trials: int) -> float:
        """Returns the time of trials that run at once; no trial is divided."""
        return max(seconds / min(load.concurrent, max(1, trials)), min(longest, seconds))

    found["trials"] = Span(*(side_by_side(each * count, budget.trials) for count in (epochs.low, epochs.high)))
    found["trials"] += _always(_ACTOR)
    if space.teachers.mode != "live":
        found["trials"] += _always(clock.maps(teachers) / load.concurrent)
    baselines = baseline_pairs(strategy.baselines, space.pairs())
    if baselines:
        whole = [budget.epochs * clock.epoch(baseline_config(space, name, pair)) for name, pair in baselines]
        found["baselines"] = _always(side_by_side(sum(whole), len(whole)))
    if strategy.confirm:
        found["confirmation"] = _confirmation(space, clock, side_by_side)
    found["report and model"] = _always(_END)
    return found


def searched_configs(space: Space) -> list[TrialConfig]:
    """Returns a trial's config for each pair and method."""
    return [config for method in space.methods() for config in space.pair_configs(method)]


def measured_configs(space: Space) -> list[TrialConfig]:
    """Returns configs that contain every network and method of the search, baselines and ensembles included."""
    baselines = baseline_pairs(space.strategy.baselines, space.pairs())
    found = [*searched_configs(space), *(baseline_config(space, name, pair) for name, pair in baselines)]
    members = sorted(space.ensemble_architectures() - {config.teacher for config in found})
    # Before the others, whose students are measured with their own teachers.
    return [*(dataclasses.replace(found[0], teacher=name) for name in members), *found]


def total(parts: Iterable[Span], limit: float | None) -> Span:
    """Returns the sum of all parts, limited by the time budget."""
    whole = sum(parts, Span(0.0, 0.0))
    return whole if limit is None else Span(min(whole.low, limit + _END), min(whole.high, limit + _END))


def _confirmation(space: Space, clock: _Clock, side_by_side: Callable[[float, int], float]) -> Span:
    """Returns the time of the confirmation: at least with one pair for all configs, at most with one each."""
    confirm, epochs = space.strategy.confirm, space.budget.epochs
    assert confirm is not None  # the caller has checked it
    configs = space.confirmations()
    by_pair = {pair: space.augmented_configs(pair) for pair in space.pairs()}
    cost = {
        pair: epochs
        * sum(
            clock.epoch(baseline_config(space, name, other))
            for name, other in baseline_pairs(space.strategy.baselines, [pair])
        )
        for pair in by_pair
    }
    searched = searched_configs(space)
    trials = epochs * sum(map(clock.epoch, searched)) / len(searched)
    ends = []
    for pairs, most, choose in ((1, 1, min), (min(configs, len(by_pair)), confirmed_teachers(space), max)):
        chosen = sorted(by_pair, key=lambda pair: cost[pair], reverse=choose is max)[:pairs]
        teachers = {augmented_teacher(config): config for pair in chosen for config in by_pair[pair]}
        seconds = confirm.seeds * (configs * trials + sum(cost[pair] for pair in chosen))
        count = confirm.seeds * (configs + len(chosen) * len(space.strategy.baselines))
        many = [config for config in list(teachers.values())[:most] for _ in range(confirm.seeds)]
        maps = clock.maps(many) / clock.load.concurrent if space.teachers.mode != "live" else 0.0
        ends.append(side_by_side(seconds, count) + clock.teachers(many) + maps + _ACTOR)
    return Span(min(ends), max(ends))


def _always(seconds: float) -> Span:
    return Span(seconds, seconds)


class _Clock:
    """Computes the seconds of epochs and of teachers' trainings."""

    def __init__(self, space: Space, speeds: Speeds, load: Load) -> None:
        self.space, self.speeds, self.load = space, speeds, load

    def epoch(self, config: TrialConfig) -> float:
        """Returns the seconds of an epoch of a trial; recorded outputs cost nothing, except those beyond the limit."""
        student, teacher = self.speeds.students[learner(config)], self.speeds.teachers[config.teacher]
        expert = self._expert(config)
        needs = make_method(config.method).needs
        each = student.training
        if self.space.teachers.mode == "live":
            each += teacher.training if needs.any_scratch else 0.0
            each += teacher.forward if needs.average else 0.0
            each += expert if needs.expert else 0.0
        elif any(output.kind in COMPUTED for output in needs.expert):
            each += expert
        elif needs.expert:
            each += self.load.beyond * expert
        return self.load.images * each + self.load.validation * student.forward + _EPOCH

    def _expert(self, config: TrialConfig) -> float:
        """Returns the seconds of the expert's outputs for an image: of every member of an ensemble."""
        members = config.teachers.expert.members(config.teacher)
        return sum(self.speeds.teachers[member.architecture].expert for member in members)

    def teachers(self, configs: Sequence[TrialConfig]) -> float:
        """Returns the seconds of training teachers at once; a live scratch teacher is trained in the trials instead."""
        epochs, seconds = self.space.budget.epochs, []
        needs, recorded = needs_with_baselines(self.space), self.space.teachers.mode != "live"
        for config in configs:
            expert, trained = config.teachers.expert, []
            if needs.any_expert:
                trained = [name for name, checkpoint in expert.members(config.teacher) if checkpoint is None]
            # The scratch teacher is one of them, unless the expert has another seed.
            apart = needs.any_scratch and recorded and (expert.seed is not None or config.teacher not in trained)
            for name in [*trained, *([config.teacher] if apart else [])]:
                speed = self.speeds.teachers[name]
                # Of the running average of its weights, a further forward pass.
                followed = speed.forward if recorded and needs.average and name == config.teacher else 0.0
                one = self.load.images * (speed.training + followed) + self.load.validation * speed.forward + _EPOCH
                seconds.append(epochs * one)
        if not seconds:
            return 0.0
        rounds = math.ceil(len(seconds) / self.load.teachers)
        return max(sum(seconds) / self.load.teachers, max(seconds) if rounds == 1 else 0.0) + _ACTOR

    def maps(self, configs: Sequence[TrialConfig]) -> float:
        """Returns the seconds of the experts' passes over every epoch, each of which records all requested outputs."""
        passes = passes_of_teachers(each_needs_with_baselines(self.space))
        share = 1.0 - self.load.beyond
        return share * sum(
            sum(each.epochs for each in passes.get(augmented_teacher(config), []))
            * self.load.images
            * self._expert(config)
            for config in configs
        )
