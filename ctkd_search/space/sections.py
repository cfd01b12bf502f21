"""The sections of a space with the settings of the search, each as a dataclass whose fields are its keys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from ctkd_search.fields import Checked, Count, Duration, Positive, Range
from ctkd_search.units import duration


class Cost(NamedTuple):
    """A cost of a student.

    Attributes:
        limit: The key of `limits` that bounds it.
        counted: What its number counts, as in 78,042 parameters.
        label: Its name at an axis.
    """

    limit: str
    counted: str
    label: str


# Costs of a student, by the names that objectives have.
COSTS = {
    "params": Cost("max_params", "parameters", "parameters of the student"),
    "multiply_adds": Cost("max_multiply_adds", "multiply-adds", "multiply-adds for an image"),
    "latency_ms": Cost("max_latency_ms", "ms for an image", "time for an image, ms"),
    "int8_latency_ms": Cost("max_int8_latency_ms", "ms for an image in int8", "time for an image in int8, ms"),
    "onnx_bytes": Cost("max_onnx_bytes", "bytes in int8", "size in int8, bytes"),
}
# Those of its int8 file.
INT8_COSTS = ("int8_latency_ms", "onnx_bytes")


@dataclass(frozen=True)
class Budget:
    """The budget of a search.

    Attributes:
        trials: Trials in all.
        epochs: Epochs of a trial that is not stopped early.
        grace_period: Epochs that every trial gets before ASHA compares it with others. Left out, trials are compared
            twice, and for the first time when the longest warm-up has been over for the horizon of the averaged
            weights: see `ctkd_search.space.default_rungs`.
        reduction_factor: At each of ASHA's rungs one trial in this many is promoted.
        time_budget: Time limit, as in ``2h`` or ``1h30m``, or in seconds; left out, there is none.
    """

    trials: Count = 32
    epochs: Count = 60
    grace_period: Count | None = None
    reduction_factor: Annotated[int, Range(2)] = 3
    time_budget: Duration | None = None

    def rungs(self) -> list[int]:
        """Returns the epochs after which ASHA compares trials."""
        rungs = []
        epoch = self.grace_period or 1
        while epoch < self.epochs:
            rungs.append(epoch)
            epoch *= self.reduction_factor
        return rungs

    def seconds(self) -> float | None:
        """Returns the time budget in seconds."""
        return None if self.time_budget is None else duration(self.time_budget)


def whole_above_one(number: float) -> None:
    """Refuses fractions of GPUs above one.

    Raises:
        ValueError: The number is above 1 and not whole.
    """
    if number > 1 and number != int(number):
        raise ValueError(f"must be a whole number above 1, but got {number}")


_GPUs = Annotated[
    float, Range(0), Checked(whole_above_one, {"anyOf": [{"maximum": 1}, {"multipleOf": 1}]})
]  # the range first, because the other check assumes it


@dataclass(frozen=True)
class Resources:
    """The resources of a trial. Those left out are chosen from the machine's.

    Attributes:
        gpus_per_trial: GPUs, or a share of one; 0 for the CPU.
        trials_per_gpu: Trials that share a GPU, or ``auto`` to choose by the memory that a trial takes.
        cpus_per_trial: CPU cores, and threads. Left out, the cores are distributed among the trials, at most
            `OMP_NUM_THREADS` to each.
        concurrent_trials: Trials at once.
        retries: Number of times that a trial resumes from its last epoch after an error of the machine: its process
            died, memory ran out, CUDA failed or a file could not be read. Errors of the training itself would repeat
            and are not retried.
        address: A running Ray cluster to join; left out, Ray starts on this machine.
    """

    gpus_per_trial: _GPUs | None = None
    trials_per_gpu: Count | Literal["auto"] | None = None
    cpus_per_trial: Count | None = None
    concurrent_trials: Count | None = None
    retries: Annotated[int, Range(0)] = 2
    address: str | None = None


@dataclass(frozen=True)
class Tracking:
    """The settings of MLflow.

    Attributes:
        uri: An MLflow tracking URI; left out, it is a SQLite file in the directory of the searches.
        experiment: Name of the MLflow experiment; left out, it is the space's name.
        patience: Seconds to wait for an unreachable server at the end of a search.
        system_metrics: Whether processor, memory, disk, network and GPUs of the machine that runs the search are logged
            to its run, every 10 seconds.
    """

    uri: str | None = None
    experiment: str | None = None
    patience: Annotated[float, Range(0)] = 60.0
    system_metrics: bool = False


@dataclass(frozen=True)
class Sampler:
    """The sampler, which suggests the trials. Options left out have Optuna's own defaults.

    Attributes:
        name: ``tpe``, ``gp`` (Gaussian processes), ``cmaes`` (CMA-ES), ``qmc`` (a quasi-random sequence) or ``random``.
        startup_trials: Random trials, stopped ones among them, before ``tpe`` or ``gp`` begins to model.
        candidates: Points among which ``tpe`` chooses.
        multivariate: Whether ``tpe`` models the parameters together, by their conditions, in place of each by itself.
        sigma: Initial standard deviation of ``cmaes``, as a share of each range.
        population: Trials in a generation of ``cmaes``; below 4 its step sizes divide by zero.
        sequence: Sequence of ``qmc``.
        scramble: Whether the sequence of ``qmc`` is scrambled by the seed.
    """

    name: Literal["tpe", "gp", "cmaes", "qmc", "random"] = "tpe"
    startup_trials: Count | None = None
    candidates: Count | None = None
    multivariate: bool | None = None
    sigma: Annotated[float, Range(0, 1, open_low=True)] | None = None
    population: Annotated[int, Range(4)] | None = None
    sequence: Literal["sobol", "halton"] | None = None
    scramble: bool | None = None

    def options(self) -> dict[str, Any]:
        """The options that were given."""
        return _given(self)


SAMPLER_OPTIONS = {
    "tpe": ("startup_trials", "candidates", "multivariate"),
    "gp": ("startup_trials",),
    "cmaes": ("sigma", "population"),
    "qmc": ("sequence", "scramble"),
    "random": (),
}


@dataclass(frozen=True)
class Scheduler:
    """The scheduler, which stops trials early.

    Attributes:
        name: ``asha``, ``hyperband`` (asynchronous Hyperband: several ASHA brackets, the later ones with longer grace
            periods), ``constant`` (every trial gets the grace period alone, and then the best of all trials are trained
            to their end) or ``none``.
        brackets: Brackets of ``hyperband``; left out, as many as the budget has rungs.
        signal: Metric of the validation images that trials are compared by at the rungs: ``loss``, or ``objective`` for
            the first objective. Left out, it is the loss; for the calibration error, which the loss does not rank, the
            objective.
        horizon: Horizon, in epochs, of the running average of a student's weights that the signal is measured with. 0
            measures it with the weights that the student is judged by. Left out, it is 1.
        promote: Whether a trial that does not go on at a rung is paused, and promoted once it is among the best there
            because worse trials have come; left out, it is. Otherwise it is stopped for good.
        best: Number of trials that ``constant`` trains to their end; left out, it is 3.
    """

    name: Literal["asha", "hyperband", "constant", "none"] = "asha"
    brackets: Annotated[int, Range(2)] | None = None
    signal: Literal["loss", "objective"] | None = None
    horizon: Annotated[float, Range(0)] | None = None
    promote: bool | None = None
    best: Count | None = None

    @property
    def pauses(self) -> bool:
        """Returns whether trials that do not go on at once may be promoted later."""
        return self.promote is not False

    @property
    def averaged_over(self) -> float:
        """Returns the horizon, in epochs, of the averaged weights that trials are compared by; 0 for no average."""
        if self.name == "none":
            return 0.0
        return DEFAULT_HORIZON if self.horizon is None else self.horizon

    @property
    def finalists(self) -> int:
        """Returns the number of trials that ``constant`` trains to their end."""
        return self.best or DEFAULT_BEST

    def options(self) -> dict[str, Any]:
        """The options that were given."""
        return _given(self)


# Horizon, in epochs, of the averaged weights that trials are compared by.
DEFAULT_HORIZON = 1.0
# Number of trials that ``constant`` trains to their end.
DEFAULT_BEST = 3
_RANKING = ("signal", "horizon")
SCHEDULER_OPTIONS: dict[str, tuple[str, ...]] = {
    "asha": (*_RANKING, "promote"),
    "hyperband": ("brackets", *_RANKING, "promote"),
    "constant": (*_RANKING, "best"),
    "none": (),
}
# The sections that are a name, or a mapping with the name and its options: their forms, and the options of each name.
NAMED: dict[str, tuple[type, dict[str, tuple[str, ...]]]] = {
    "sampler": (Sampler, SAMPLER_OPTIONS),
    "scheduler": (Scheduler, SCHEDULER_OPTIONS),
}


@dataclass(frozen=True)
class Confirm:
    """The confirmation of the winner: the best configs, and the baselines of their pairs, trained with other seeds.

    Attributes:
        best: Number of configs.
        seeds: Number of fresh seeds for each: another stream, other teachers, other initial weights.
        per_method: Whether that many of each method are confirmed, if several are searched.
    """

    best: Count = 3
    seeds: Annotated[int, Range(2)] = 3
    per_method: bool = False


@dataclass(frozen=True)
class Limits:
    """The limits on a student's costs. A pair whose student costs more is left out before anything is trained.

    Attributes:
        max_params: Parameters of the student.
        max_multiply_adds: Multiply-adds of the student for one image.
        max_latency_ms: Milliseconds that the student takes for one image, measured where the trials run.
        max_int8_latency_ms: Milliseconds that the student in int8 takes for one image with ONNX Runtime, on the
            processor of the machine where the trials run.
        max_onnx_bytes: Bytes of the student's ONNX file in int8.
    """

    max_params: Count | None = None
    max_multiply_adds: Count | None = None
    max_latency_ms: Positive | None = None
    max_int8_latency_ms: Positive | None = None
    max_onnx_bytes: Count | None = None

    def given(self) -> dict[str, float]:
        """Returns the given limits, by the cost that they limit."""
        limits = {name: getattr(self, cost.limit) for name, cost in COSTS.items()}
        return {name: limit for name, limit in limits.items() if limit is not None}


def _given(section: Any) -> dict[str, Any]:
    items = ((item.name, getattr(section, item.name)) for item in dataclasses.fields(section) if item.name != "name")
    return {name: value for name, value in items if value is not None}
