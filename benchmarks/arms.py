"""The ways to search that are compared on the recorded tables, by name."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import optuna
from earlier_searches import WarmSearch, after_another, points_for, published_elsewhere
from own_search import CONSTANT, FIRST_RUNG, IGNORED, PAUSES, PREDICTED, OwnSearch, Settings, space_for
from peers import OptunaSearch, RaySearch, SmacSearch, SyneTuneSearch
from shipped_search import ShippedSearch
from simulation import Searcher

from ctkd_search.space.transfer import Elsewhere

# Epochs of the first rung, and of how many trials one goes on.
_RUNGS = (
    (2, 4),
    (2, 5),
    (2, 9),
    (3, 4),
    (3, 6),
    (4, 3),
    (4, 4),
    (4, 5),
    (5, 4),
    (6, 3),
    (2, 2),
    (3, 2),
    (5, 2),
    (6, 2),
    (9, 2),
)
# Epochs of the first rung of other tools: their own choice, one more, and that of the package's search.
FIRST = (1, 2, 5)
Make = Callable[[str, int, int], Searcher]
# Configs of earlier searches, from the name of a table and a seed.
Earlier = Callable[[str, int], list[Elsewhere]]
AVERAGED = "averaged_1_loss"
RANDOM = "random search, none stopped"
_TOGETHER = {"name": "tpe", "multivariate": True}


@dataclass(frozen=True)
class Arm:
    """A way to search.

    Attributes:
        make: Makes it from the name of a table, a seed and the number of trials at once.
        group: `reference`, `own`, `ablation` or `peer`.
        needs: The package that it is from, if it is not one of ours.
    """

    make: Make
    group: str
    needs: str = ""

    @property
    def available(self) -> bool:
        """Returns whether its package is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def own(settings: Settings, group: str = "ablation") -> Arm:
    """A way to search of the package."""
    return Arm(lambda table, seed, workers: OwnSearch(table, seed, settings), group)


def shipped(sections: dict[str, Any], group: str, defaults: bool = False) -> Arm:
    """The package's search as it ships, but for some sections of the space."""
    return Arm(lambda table, seed, workers: ShippedSearch(table, seed, sections, defaults), group)


def _shipped() -> dict[str, Arm]:
    """The package's search, and without the default settings first, each of its parts replaced."""
    raw = {"signal": "objective", "horizon": 0}
    by_loss = {"objectives": ["validation_loss"]}
    found = {
        RANDOM: shipped({"sampler": "random", "scheduler": "none"}, "reference"),
        "TPE, none stopped": shipped({"scheduler": "none"}, "reference"),
        "ctkd-search": shipped({}, "own", defaults=True),
        "ctkd-search, without the default settings first": shipped({}, "own"),
        "ctkd-search, judged by the loss": shipped(by_loss, "own", defaults=True),
        "ctkd-search, judged by the loss, without the default settings first": shipped(by_loss, "own"),
        "ctkd-search, weights of the moment, accuracy": shipped({"scheduler": raw}, "ablation"),
        "ctkd-search, weights of the moment, loss": shipped({"scheduler": {"horizon": 0}}, "ablation"),
        "ctkd-search, averaged over half an epoch": shipped({"scheduler": {"horizon": 0.5}}, "ablation"),
        "ctkd-search, accuracy of averaged weights": shipped({"scheduler": {"signal": "objective"}}, "ablation"),
        "ctkd-search, stopping for good": shipped({"scheduler": {"promote": False}}, "ablation"),
        "ctkd-search, random sampler": shipped({"sampler": "random"}, "ablation"),
        "ctkd-search, parameters modelled together": shipped({"sampler": _TOGETHER}, "ablation", defaults=True),
        "ctkd-search, parameters modelled together, without the default settings first": shipped(
            {"sampler": _TOGETHER}, "ablation"
        ),
    }
    # Where no average has to look back, the package itself would begin an epoch earlier.
    for label, scheduler in (("accuracy", raw), ("loss", {"horizon": 0})):
        same = {"scheduler": scheduler, "budget": {"grace_period": 5}}
        found[f"ctkd-search, weights of the moment, {label}, rungs 5, 15"] = shipped(same, "ablation")
    for grace in (1, 2, 3):
        found[f"ctkd-search, from epoch {grace}"] = shipped({"budget": {"grace_period": grace}}, "ablation")
    for grace, reduction in _RUNGS:
        budget = {"grace_period": grace, "reduction_factor": reduction}
        found[f"ctkd-search, from epoch {grace}, one in {reduction}"] = shipped({"budget": budget}, "ablation")
    for startup in (3, 5, 20):
        sampler = {"name": "tpe", "startup_trials": startup}
        found[f"ctkd-search, {startup} random trials first"] = shipped({"sampler": sampler}, "ablation")
    found["ctkd-search, Gaussian process"] = shipped({"sampler": "gp"}, "ablation")
    return found


def _optuna(pruner: Callable[[int], optuna.pruners.BasePruner], earlier: Earlier | None = None) -> Arm:
    def make(table: str, seed: int, workers: int) -> Searcher:
        space = space_for(table, seed, Settings())
        first = points_for(table, earlier(table, seed)) if earlier else ()
        return OptunaSearch(space, seed, lambda: pruner(space.budget.epochs), first)

    return Arm(make, "peer")


def _ray(earlier: Earlier | None = None, **options: int) -> Arm:
    def make(table: str, seed: int, workers: int) -> Searcher:
        space = space_for(table, seed, Settings())
        first = points_for(table, earlier(table, seed)) if earlier else ()
        return RaySearch(space, seed, space.budget.epochs, first, **options)

    return Arm(make, "peer")


def _syne_tune(name: str, **options: int) -> Arm:
    def make(table: str, seed: int, workers: int) -> Searcher:
        space = space_for(table, seed, Settings())
        return SyneTuneSearch(space, seed, space.budget.epochs, name, **options)

    return Arm(make, "peer", "syne_tune")


def _smac(grace: int) -> Arm:
    def make(table: str, seed: int, workers: int) -> Searcher:
        space = space_for(table, seed, Settings())
        return SmacSearch(space, seed, space.budget.epochs, grace, workers)

    return Arm(make, "peer", "smac")


def _pruners() -> dict[str, Arm]:
    pruners = optuna.pruners
    found = {}
    for first in FIRST:
        found[f"Optuna TPE, HyperbandPruner from {first}"] = _optuna(
            lambda epochs, first=first: pruners.HyperbandPruner(first, epochs, 3)  # type: ignore[misc]
        )
        found[f"Optuna TPE, SuccessiveHalvingPruner from {first}"] = _optuna(
            lambda epochs, first=first: pruners.SuccessiveHalvingPruner(first, 3)  # type: ignore[misc]
        )
    return found


def _ablations() -> dict[str, Arm]:
    base = Settings(signal=AVERAGED)
    found: dict[str, Arm] = {}
    for signal in ("accuracy", "averaged_0.5_accuracy", "averaged_0.5_loss", "averaged_1_accuracy", AVERAGED):
        for grace in (1, 2, 3, 4):
            found[f"own, random, stop, {signal}, from {grace}"] = own(
                Settings(sampler="random", signal=signal, grace=grace)
            )
    for stopping in ("stop", PAUSES):
        for grace in (2, 3, 4, 6):
            for told in ("pruned", IGNORED, PREDICTED, FIRST_RUNG):
                found[f"own, tpe, {stopping}, {AVERAGED}, from {grace}, {told}"] = own(
                    replace(base, stopping=stopping, grace=grace, told=told)
                )
    for sampler, grace in itertools.product(("random", "tpe"), (1, 2, 3, 4, 6)):
        told = PREDICTED if sampler == "tpe" else "pruned"
        found[f"own, {sampler}, {PAUSES}, by predicted end, from {grace}, {told}"] = own(
            replace(base, sampler=sampler, stopping=PAUSES, grace=grace, told=told, predicts=True)
        )
    for grace in (2, 3, 4):
        found[f"own, random, {PAUSES}, {AVERAGED}, from {grace}"] = own(
            replace(base, sampler="random", stopping=PAUSES, grace=grace)
        )
    for told in (IGNORED, PREDICTED, FIRST_RUNG):
        found[f"own, gp, {PAUSES}, {AVERAGED}, from 3, {told}"] = own(
            replace(base, sampler="gp", stopping=PAUSES, grace=3, told=told)
        )
    return found


def _warm() -> dict[str, Arm]:
    """Searches that begin with configs of earlier ones, and others that are told the same configs."""
    found: dict[str, Arm] = {}
    for label, earlier in (("after a search on the other images", after_another), ("published", published_elsewhere)):
        for objective, sections in (("", {}), (", judged by the loss", {"objectives": ["validation_loss"]})):
            found[f"ctkd-search{objective}, warm start, {label}"] = Arm(
                lambda table, seed, workers, sections=sections, earlier=earlier: WarmSearch(  # type: ignore[misc]
                    table, seed, sections, earlier(table, seed)
                ),
                "own",
            )
        found[f"ctkd-search, the default settings first, {label}"] = Arm(
            lambda table, seed, workers, earlier=earlier: WarmSearch(  # type: ignore[misc]
                table, seed, {}, earlier(table, seed), defaults_first=True
            ),
            "ablation",
        )
        rungs = {"grace_period": 5, "reduction_factor": 3}
        found[f"Ray ASHA (rungs 5, 15) + OptunaSearch, {label}"] = _ray(earlier, **rungs)
        found[f"Optuna TPE, HyperbandPruner from 5, {label}"] = _optuna(
            lambda epochs: optuna.pruners.HyperbandPruner(5, epochs, 3), earlier
        )
    return found


def _constants() -> dict[str, Arm]:
    found = {}
    for epochs in (1, 2, 3, 4):
        for signal in ("accuracy", AVERAGED):
            found[f"constant, random, {signal}, {epochs}"] = own(
                Settings(sampler="random", stopping=CONSTANT, signal=signal, grace=epochs), "reference"
            )
    return found


ARMS: dict[str, Arm] = {
    **_shipped(),
    **_warm(),
    **_constants(),
    **_ablations(),
    "Ray ASHA (its defaults) + OptunaSearch": _ray(),
    "Ray ASHA (rungs 2, 6) + OptunaSearch": _ray(grace_period=2, reduction_factor=3),
    "Ray ASHA (rungs 5, 15) + OptunaSearch": _ray(grace_period=5, reduction_factor=3),
    **_pruners(),
    **{
        f"Syne Tune {name}, from {first}": _syne_tune(name, grace_period=first)
        for name in ("ASHA", "BOHB", "ASHABORE", "ASHACQR")
        for first in FIRST
    },
    **{f"SMAC3 multi-fidelity, from {first}": _smac(first) for first in FIRST[1:]},
}
