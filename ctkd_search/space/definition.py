"""A space, typed and validated: the parameters of a search and all its settings.

Nothing heavy is imported here, so that a space can be checked quickly.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig, plain
from ctkd_search.distill.methods.base import Method, Parameter, make_method, method_class
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Seed
from ctkd_search.geometry import Geometry
from ctkd_search.pairs import Pair, short_name, split_pair
from ctkd_search.recipe import BALANCED, EFFECTIVE, UNWEIGHTED, Recipe
from ctkd_search.space.defaults import default_of
from ctkd_search.space.distributions import Choice, Constant, Entry, Number, show
from ctkd_search.space.parameters import (
    AUGMENT,
    CTKD,
    METHOD,
    PAIR,
    TRAINING,
    active,
    chosen_methods,
    key_of,
    ordered,
    parameters,
    possible_methods,
    possible_values,
)
from ctkd_search.space.sections import Budget, Resources, Tracking
from ctkd_search.space.strategy import Strategy

if TYPE_CHECKING:
    import optuna


class _NotInSpace(Exception):
    """An error for a value that is not possible in its entry."""


class Point(NamedTuple):
    """A point of a space.

    Attributes:
        stored: Values of the searched parameters, as Optuna stores them.
        values: Value of every parameter.
    """

    stored: dict[str, Any]
    values: dict[str, Any]


@dataclass(frozen=True)
class Space:
    """A validated space.

    Attributes:
        name: Name of the space, and of its searches unless they are given another.
        dataset: The images.
        augment: Their augmentation; if it is searched, the first of the alternatives.
        budget: Budget of the search.
        teachers: Training and recording of the teachers.
        train: The student's recipe, as far as it is not searched.
        strategy: Strategy of the search.
        entries: Entries of the parameters under ``search``.
        resources: Resources of a trial; those left out are chosen from the machine's.
        tracking: Settings of MLflow.
        seed: Seed of the stream, of the students' initial weights, and of the sampler.
        raw: Content of the file, overrides included.
        geometry: Classes, channels and size of the images; None if they are not known.
        augments: The alternatives of a searched augmentation by name; empty if it is not searched.
    """

    name: str
    dataset: DatasetConfig
    augment: Augment
    budget: Budget
    teachers: TeachersConfig
    train: Recipe
    strategy: Strategy
    entries: Mapping[str, Entry]
    resources: Resources
    tracking: Tracking
    seed: Seed
    raw: Mapping[str, Any] = field(repr=False)
    geometry: Geometry | None = None
    augments: Mapping[str, Augment] = field(default_factory=dict)

    @property
    def augmentations(self) -> list[Augment]:
        """Returns the augmentations that trials may have."""
        return list(self.augments.values()) or [self.augment]

    @property
    def rungs(self) -> list[int]:
        """Returns the epochs after which trials are compared; none where no trial is stopped early."""
        rungs = self.budget.rungs()
        return {"none": [], "constant": rungs[:1]}.get(self.strategy.scheduler.name, rungs)

    @functools.cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Returns all parameters that may be searched, by key; see `default` for their defaults."""
        return parameters(self.train, self.methods(), tuple(self.augments))

    def default(self, parameter: Parameter, pair: str) -> Any:
        """Returns the default of a parameter in trials of a pair."""
        return default_of(parameter, pair, self.geometry)

    def _left_out(self, parameter: Parameter, values: Mapping[str, Any]) -> Any:
        """Returns the default of a parameter, given the values of those before it."""
        return self.default(parameter, values.get(PAIR.name, PAIR.default))

    @functools.cached_property
    def ordered(self) -> Sequence[tuple[str, Parameter]]:
        """Returns the parameters, each after those that its condition names."""
        order = ordered(self.entries, self.parameters)
        assert order is not None  # a space with circular conditions is refused when it is read
        return order

    def _walk(self, choose: Callable[[str, Number | Choice, Mapping[str, Any]], Any]) -> Point:
        """Settles every parameter, each after those that its condition names.

        Args:
            choose: Returns the value of a searched parameter as Optuna stores it, or None to leave it at its default;
                called with the parameter's name, its entry and the values that are settled, where its condition holds.
        """
        point = Point({}, {})
        for name, parameter in self.ordered:
            entry = self.entries.get(name)
            if isinstance(entry, Constant):
                point.values[name] = entry.value
                continue
            searched = entry is not None and active(entry, point.values)
            stored = choose(name, entry, point.values) if searched else None  # type: ignore[arg-type]
            if stored is None:
                point.values[name] = self._left_out(parameter, point.values)
            else:
                point.stored[name] = stored
                point.values[name] = entry.decode(stored)  # type: ignore[union-attr]
        return point

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draws the values of one trial from Optuna, define-by-run.

        Returns:
            The value of every parameter, including constants and those that take their default.
        """
        return self._walk(lambda name, entry, values: entry.suggest(trial, name)).values

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the value of every parameter, from the values that Optuna stores for the searched ones."""
        return self._walk(lambda name, entry, values: stored.get(name)).values

    def renamed(self, values: Mapping[str, Any], other: Space) -> dict[str, Any]:
        """Returns the values of a trial of another space with the name that its augmentation has in this one.

        Where it has none, the name is None, and for `encode` no trial is like that.
        """
        augment = other.augments[values[AUGMENT]] if other.augments else other.augment
        rest = {name: value for name, value in values.items() if name != AUGMENT}
        if self.augments or augment != self.augment:
            rest[AUGMENT] = self.name_of(augment)
        return rest

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the values of the searched parameters as Optuna stores them, the reverse of `decode`.

        Args:
            values: Values of a trial, those that have an effect.

        Returns:
            The stored values; None if no trial of this space is like that.
        """

        def encoded(name: str, entry: Number | Choice, settled: Mapping[str, Any]) -> Any:
            if name not in values:
                return entry.nearest(self._left_out(self.parameters[name], settled))
            stored = entry.encode(values[name])
            if stored is None:
                raise _NotInSpace
            return stored

        try:
            point = self._walk(encoded)
        except _NotInSpace:
            return None
        # Records of the first versions have no method, because CTKD was the only one.
        given = plain({METHOD.name: CTKD, **values})
        return point.stored if plain(self.effective(point.values)) == given else None

    def with_pairs(self, allowed: Container[str]) -> Space:
        """Returns the space with those pairs only; at least one of its own must be among them."""
        entry = self.entries.get("pair")
        if not isinstance(entry, Choice):
            return self
        options = {text: pair for text, pair in entry.options.items() if pair in allowed}
        narrowed = dataclasses.replace(entry, options=options, shown=" | ".join(options))
        return dataclasses.replace(self, entries={**self.entries, "pair": narrowed})

    def methods(self) -> tuple[str, ...]:
        """Returns the methods that trials may have."""
        return chosen_methods(self.entries)

    def confirmations(self) -> int:
        """Returns the largest number of configs confirmed with fresh seeds."""
        confirm = self.strategy.confirm
        return 0 if confirm is None else confirm.best * (len(self.methods()) if confirm.per_method else 1)

    def pairs(self) -> list[str]:
        """Returns the pairs that trials may have."""
        return list(possible_values(self.entries.get("pair"), PAIR))

    def paper_point(self, method: str | None = None, pair: str | None = None) -> dict[str, Any]:
        """Returns the default settings as Optuna stores them, or the nearest values that the space has.

        Args:
            method: Method of the defaults; None for the space's first one.
            pair: Pair of the defaults; None for the default one, or the space's first.
        """
        chosen = {METHOD.name: method, PAIR.name: pair}
        return self.nearest({name: value for name, value in chosen.items() if value is not None}).stored

    def nearest(self, wanted: Mapping[str, Any]) -> Point:
        """Returns the point of this space that is nearest to given values.

        Args:
            wanted: Values by name; a parameter without one is as near as possible to its default.
        """

        def nearest(name: str, entry: Number | Choice, settled: Mapping[str, Any]) -> Any:
            return entry.nearest(wanted[name] if name in wanted else self._left_out(self.parameters[name], settled))

        return self._walk(nearest)

    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values that have an effect, given the others; for example, no temperature without kl."""
        return {
            name: values[name]
            for name, parameter in self.parameters.items()
            if all(allows(allowed, values[other]) for other, allowed in parameter.only_with.items())
        }

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Returns the config of a trial, every value resolved.

        Args:
            values: The value of every parameter, from `suggest` or `decode`.
        """
        name = values[METHOD.name]
        own = {item.name: values[key_of(name, item.name)] for item in method_class(name).parameters}
        recipe = {item.name: values[item.name] for item in TRAINING}
        return self.config_with(values["pair"], MethodConfig(name, own), recipe, values.get(AUGMENT))

    def config_with(
        self, pair: str, method: MethodConfig, recipe: Mapping[str, Any], augment: str | None
    ) -> TrialConfig:
        """Returns the config of a trial, with all settings that are the same for all trials.

        Args:
            pair: Teacher and student.
            method: The method and the value of each of its parameters.
            recipe: The searched values of the student's recipe.
            augment: Name of the augmentation, if it is searched.
        """
        teacher, student = split_pair(pair)
        seen = self.augment if augment is None else self.augments[augment]
        return TrialConfig(
            dataset=self.dataset,
            augment=seen,
            epochs=self.budget.epochs,
            teacher=teacher,
            student=student,
            method=method,
            train=dataclasses.replace(self.train, **recipe),
            teachers=dataclasses.replace(self.teachers, recipe=_weighted(self.teachers.recipe, seen)),
            seed=self.seed,
            metrics=self.strategy.metrics,
            objective=self.strategy.judge.key,
            int8=self.strategy.quantises_trials,
        )

    def values_of(self, config: TrialConfig) -> dict[str, Any]:
        """Returns the values of a config that have an effect, as trials have them."""
        return shown_values(config) | ({AUGMENT: self.name_of(config.augment)} if self.augments else {})

    def label(self, values: Mapping[str, Any]) -> str:
        """Returns a trial's short name: its student and the searched values, as in ``wrn-16-1 kl T=4.2 b=800 L2,3``."""
        searched = [name for name, entry in self.entries.items() if not isinstance(entry, Constant)]
        return " ".join([self.short_pair(values["pair"]), *self.words(values, searched)])

    def words(self, values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
        """Returns some of a trial's values in short, as ``T=4.2``, without its pair and those that it does not have."""
        known = self.parameters
        return [known[name].symbol + _short(values[name]) for name in names if name in values and name != "pair"]

    def short_pair(self, pair: str) -> str:
        """Returns a pair's short name: the student alone if every pair has the same teacher."""
        pairs = [split_pair(known) for known in self.pairs()]
        names = {name for known in pairs for name in known}
        shorts = [short_name(name) for name in names]
        # Two names whose short forms are equal keep their long forms.
        teacher, student = (
            name if shorts.count(short_name(name)) > 1 else short_name(name) for name in split_pair(pair)
        )
        return student if len({known.teacher for known in pairs}) == 1 else str(Pair(teacher, student))

    def pair_configs(self, method: str | None = None) -> list[TrialConfig]:
        """Returns for each pair the config of some trial that has it, and that method if one is given."""
        chosen = {METHOD.name: method} if method else {}
        return [self.config({**self.decode({**chosen, PAIR.name: pair}), PAIR.name: pair}) for pair in self.pairs()]

    def augmented_configs(self, pair: str) -> list[TrialConfig]:
        """Returns the config of some trial of a pair for each augmentation that its trials may have."""
        entry, first = self.entries.get(AUGMENT), self.decode({PAIR.name: pair})
        if entry is None or not allows(getattr(entry, "when", {}).get(PAIR.name, (pair,)), pair):
            return [self.config({**first, PAIR.name: pair})]
        return [self.config({**first, PAIR.name: pair, AUGMENT: name}) for name in self.augments]

    def largest_configs(self) -> list[TrialConfig]:
        """Returns for each pair and method the config of a trial with the largest batch that the space allows."""
        entry = self.entries.get("batch_size")
        listed = possible_values(entry, self.parameters["batch_size"])
        batch = int(entry.high) if isinstance(entry, Number) else max(listed)
        return [
            dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=batch))
            for method in self.methods()
            for config in self.pair_configs(method)
        ]

    def teachers_by_name(self) -> dict[str, TrialConfig]:
        """Returns the teacher architectures that trials may have, each with the config of some trial that has it."""
        return {config.teacher: config for config in self.pair_configs()}

    def ensemble_architectures(self) -> set[str]:
        """Returns the architectures of the members of an ensemble of experts; empty if there is none."""
        expert = self.teachers.expert
        if expert.ensemble is None:
            return set()
        return {member.architecture for name in self.teachers_by_name() for member in expert.members(name)}

    def trained_teachers(self) -> list[TrialConfig]:
        """Returns the config of some trial for each teacher with each augmentation, with which it is trained anew."""
        every = (config for pair in self.pairs() for config in self.augmented_configs(pair))
        return list({(config.teacher, config.augment): config for config in every}.values())

    def named_teacher(self, config: TrialConfig) -> str:
        """Returns the name of a config's teacher, with that of its augmentation if this is searched."""
        return f"{config.teacher} with {self.name_of(config.augment)}" if self.augments else config.teacher

    def name_of(self, augment: Augment) -> str | None:
        """Returns the name of an alternative; None if there is no such one."""
        return next((name for name, own in self.augments.items() if own == augment), None)

    def needs(self, pair: str) -> Needs:
        """Returns the union of the needs of a pair's trials."""
        return functools.reduce(operator.or_, self.each_needs(pair), Needs())

    def each_needs(self, pair: str) -> list[Needs]:
        """Returns the different needs of a pair's trials."""
        return list(dict.fromkeys(made.needs for made in self.each_method(pair)))

    def each_method(self, pair: str) -> list[Method]:
        """Returns the methods of a pair's trials, with the values on which their needs depend."""
        return [made for name in self.methods() for made in possible_methods(name, self.entries, pair, self.geometry)]


def shown_values(config: TrialConfig) -> dict[str, Any]:
    """Returns a config's values of pair, method and recipe that have an effect, by their keys in tables and MLflow."""
    method, recipe = make_method(config.method), config.train.effective()
    return {
        "pair": str(Pair(config.teacher, config.student)),
        "method": method.name,
        **{key_of(method.name, item.name): method.values[item.name] for item in method.effective_parameters()},
        **{item.name: recipe[item.name] for item in TRAINING if item.name in recipe},
    }


def _weighted(recipe: Recipe, augment: Augment) -> Recipe:
    """Returns a recipe without class weights that have no effect, because every class is shown equally often."""
    idle = augment.sampling == BALANCED and recipe.class_weights in (BALANCED, EFFECTIVE)
    return dataclasses.replace(recipe, class_weights=UNWEIGHTED) if idle else recipe


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else show(value)
