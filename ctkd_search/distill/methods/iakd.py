"""Interactive Knowledge Distillation (Fu, Li, Xu, Cheng, Liu, Yang; arXiv 2007.01476)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import OURS, PAPER
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork

_SCHEDULES = ("constant", "linear", "review")
_CHANGING = ("linear", "review")


class _Stage(NamedTuple):
    """The properties of a stage that decide whether its blocks can be swapped.

    Attributes:
        blocks: Number of blocks.
        widths: Channels of its input and of its output.
        strides: Divisor of the image's side in its input, unless that is the stem's, and in its output.
    """

    blocks: int
    widths: tuple[int, int]
    strides: tuple[int, ...]


class IAKD(Method):
    """No distillation loss: at every step the expert's blocks replace some of the student's, L = CE(z_hybrid, y).

    A stage of the expert is divided into as many segments of consecutive blocks as the student's stage has blocks, and
    segment i replaces block i. The expert's blocks are frozen, in evaluation mode, and gradients flow through them to
    the student's blocks before. A step does not change a block that is swapped out: no gradient, no weight decay, no
    momentum. The student alone is evaluated and deployed.

    The defaults swap seldom, which suits the short trainings of a search; the paper's schedules grow.
    """

    name: ClassVar[str] = "iakd"
    summary: ClassVar[str] = "the expert's blocks in the place of some of the student's, drawn at every step"
    paper: ClassVar[str] = "arXiv 2007.01476"
    captured: ClassVar[bool] = False
    scheduled: ClassVar[tuple[str, ...]] = ("probability_now",)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "schedule",
            "constant",
            "how the probability that a block is swapped changes over the epochs",
            kind="choice",
            choices=_SCHEDULES,
            note=(
                "`constant`: start_probability throughout; `linear`: from start_probability in the first epoch to "
                "end_probability in the last; `review`: linear again in every cycle"
            ),
            source=OURS,
        ),
        Parameter(
            "start_probability",
            0.1,
            "probability that a block of the student is swapped in the first epoch",
            "p=",
            range=Range(0, 1),
            source=OURS,
        ),
        Parameter(
            "end_probability",
            0.5,
            "probability that a block of the student is swapped in the last epoch, of a cycle in schedule review",
            "p2=",
            range=Range(0, 1),
            only_with={"schedule": _CHANGING},
            source=OURS,
        ),
        Parameter(
            "cycles",
            3,
            "number of cycles, in each of which the probability starts again, in schedule review",
            "cycles=",
            kind="int",
            range=Range(2),
            only_with={"schedule": ("review",)},
            source=OURS,
        ),
        Parameter(
            "stages",
            (1, 2, 3),
            "which stages have their blocks swapped",
            "S",
            kind="layers",
            all_layers=True,
            source=PAPER,
        ),
        Parameter(
            "bridge",
            False,
            "whether 1x1 convolutions, for training alone, join blocks whose widths differ; else the pair is refused",
            "bridge=",
            kind="choice",
            choices=(False, True),
            source=OURS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("iakd", "the expert's blocks swapped into the student (Fu et al., arXiv 2007.01476)"),
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.begin_epoch(0, 1)

    @property
    def swaps(self) -> bool:
        """Returns whether any block is ever swapped."""
        return self.values["start_probability"] > 0 or (self._changes and self.values["end_probability"] > 0)

    @property
    def _changes(self) -> bool:
        return self.values["schedule"] in _CHANGING

    def canonical(self) -> MethodConfig:
        """Returns the student alone if no block is ever swapped, and schedule constant if the probability stays."""
        if not self.swaps:
            return MethodConfig("none")
        config = super().canonical()
        values = config.values
        if self._changes and values["start_probability"] == values["end_probability"]:
            kept = {key: value for key, value in values.items() if key not in {"end_probability", "cycles"}}
            return MethodConfig(config.name, {**kept, "schedule": "constant"})
        return config

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters of schedules without a second epoch, and of bridges between blocks of equal widths."""
        found: dict[str, str] = {}
        if self.values["bridge"] and self.fault(setting.teacher, setting.student) is None:
            both = ((_stage(setting.teacher, stage), _stage(setting.student, stage)) for stage in self.values["stages"])
            if self.swaps and all(theirs.widths == ours.widths for theirs, ours in both):
                found["bridge"] = "the blocks have equal widths, so that no convolution is needed"
        cycles = self.values["cycles"] if self.values["schedule"] == "review" else 1
        if self._changes and cycles >= setting.epochs:
            reason = f"{cycles} cycle{'s' * (cycles > 1)} in {setting.epochs} epochs leave one epoch at most for each"
            found |= dict.fromkeys(("schedule", "end_probability", *["cycles"] * (cycles > 1)), reason)
        return found

    @property
    def needs(self) -> Needs:
        """Returns the expert's network; nothing if no block is ever swapped."""
        return Needs(network=self.swaps)

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with the expert's blocks to swap in."""
        from ctkd_search.distill.hybrid import Hybrid

        if not self.swaps:
            return student
        with context.seeded("bridges"):
            return Hybrid(
                student,
                context.expert(),
                geometry=context.geometry,
                stages=self.values["stages"],
                bridge=self.values["bridge"],
                probability=lambda: float(self.probability_now),
                seed=context.seed_of("swaps"),
            )

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the probability of a swap."""
        self.set_number("probability_now", self.probability(epoch, epochs))

    def probability(self, epoch: int, epochs: int) -> float:
        """Returns the probability that a block is swapped.

        Args:
            epoch: The epoch, from 0.
            epochs: Epochs of the trial.
        """
        start, end = self.values["start_probability"], self.values["end_probability"]
        if not self._changes:
            return float(start)
        cycles = min(self.values["cycles"], epochs) if self.values["schedule"] == "review" else 1
        # Cycle c has the epochs from ⌈c · epochs / cycles⌉ on.
        cycle = epoch * cycles // epochs
        first, behind = (-(-number * epochs // cycles) for number in (cycle, cycle + 1))
        return float(start + (end - start) * (epoch - first) / max(1, behind - first - 1))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the cross-entropy of the hybrid."""
        from ctkd_search.distill import losses

        return {"loss_ce": losses.cross_entropy(output.logits, lesson)}

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Returns why this method cannot teach that student by that teacher, or None.

        Both must consist of blocks, the teacher's stages of no fewer than the student's; strides must be equal, and
        widths unless they are bridged.
        """
        if not self.swaps:
            return None
        stages = sorted(self.values["stages"])
        for network in (teacher, student):
            if network.blocks is None:
                return f"{network.name} does not consist of blocks that {self.name} could swap"
            for stage in stages:
                if stage not in network.layers:
                    return f"{network.name} has no stage {stage}; it has {','.join(map(str, network.layers))}"
        faults = (self._stage_fault(stage, teacher, student) for stage in stages)
        return next((fault for fault in faults if fault), None)

    def _stage_fault(self, stage: int, teacher: Architecture, student: Architecture) -> str | None:
        theirs, ours = _stage(teacher, stage), _stage(student, stage)
        if theirs.blocks < ours.blocks:
            return (
                f"stage {stage} of {teacher.name} must have at least as many blocks as that of {student.name}, "
                f"{ours.blocks}, but has {theirs.blocks}"
            )
        problem = f"blocks of stage {stage} cannot be swapped: "
        if theirs.strides != ours.strides:
            return (
                f"{problem}they make maps of {_sized(theirs)} in {teacher.name} and of {_sized(ours)} in {student.name}"
            )
        if theirs.widths != ours.widths and not self.values["bridge"]:
            return (
                f"{problem}they make {_made(theirs)} in {teacher.name} and {_made(ours)} in {student.name}; "
                "bridge: true joins them by 1x1 convolutions"
            )
        return None


def _stage(network: Architecture, stage: int) -> _Stage:
    assert network.blocks is not None  # one that has none is refused before
    widths = [network.blocks.stem, *(tap.channels for tap in network.taps)]
    strides = [tap.stride for tap in network.taps]
    return _Stage(
        network.blocks.counts[stage - 1],
        (widths[stage - 1], widths[stage]),
        tuple(strides[max(0, stage - 2) : stage]),
    )


def _made(stage: _Stage) -> str:
    return f"{stage.widths[1]} channels of {stage.widths[0]}"


def _sized(stage: _Stage) -> str:
    *enters, leaves = (f"1/{stride}" for stride in stage.strides)
    return f"{leaves} of the image's side{f' from {enters[0]}' if enters else ''}"


METHOD = IAKD
