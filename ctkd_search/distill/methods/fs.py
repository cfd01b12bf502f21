"""Matching feature statistics (as in Yang, Martinez, Bulat, Tzimiropoulos; arXiv 2003.04289)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import OURS
from ctkd_search.distill.requests import Needs, TeacherOutput
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork


class FeatureStatistics(Method):
    """Mean and variance of each channel of the expert's feature maps, over the positions of each image.

    L = CE(z_s, y) + weight · Σ_j mean over batch and channels of ((μ_s^j - μ_e^j)² + (v_s^j - v_e^j)²).

    This is the squared distance that the paper begins with, not its loss through adaptive instance normalisation; the
    weight is this package's own. Maps may differ in size, because statistics do not depend on positions; if they differ
    in width, ``bridge`` adds a 1x1 convolution before the student's statistics.
    """

    name: ClassVar[str] = "fs"
    summary: ClassVar[str] = "mean and variance of each channel of the expert's feature maps"
    paper: ClassVar[str] = "arXiv 2003.04289"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", 0.1, "weight of the statistics", "w=", range=Range(0), term="loss_statistics", source=OURS),
        Parameter(
            "statistics_layers",
            (1, 2, 3),
            "which feature maps' statistics are compared",
            "L",
            kind="layers",
            only_with={"weight": ABOVE_ZERO},
            all_layers=True,
            source=OURS,
        ),
        Parameter(
            "bridge",
            False,
            "whether 1x1 convolutions bring the student's maps to the expert's width before their statistics are taken",
            "bridge=",
            kind="choice",
            choices=(False, True),
            only_with={"weight": ABOVE_ZERO},
            note="trained with the student; without them, pairs of different widths are refused",
            source=OURS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("fs", "the statistics of the expert's maps (Yang et al., arXiv 2003.04289)", {"bridge": False}),
        Baseline("fs-bridged", "fs through 1x1 convolutions, for maps of different widths", {"bridge": True}),
    )

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the layers whose statistics are compared; none if they have no weight."""
        layers: tuple[int, ...] = self.values["statistics_layers"]
        return layers if self.values["weight"] > 0 else ()

    @property
    def needs(self) -> Needs:
        """Returns the statistics of the layers."""
        return Needs(expert=tuple(TeacherOutput("statistics", layer) for layer in self.layers))

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Refuses pairs without the layers in both, or with unequal channels unless they are bridged."""
        if missing := super().fault(teacher, student):
            return missing
        for layer in self.layers:
            theirs, ours = teacher.taps[layer - 1].channels, student.taps[layer - 1].channels
            if theirs != ours and not self.values["bridge"]:
                return (
                    f"the statistics of layer {layer} cannot be compared: {teacher.name} has {theirs} channels there "
                    f"and {student.name} {ours}; a 1x1 convolution bridges them (bridge: true, baseline fs-bridged)"
                )
        return None

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student, with its bridges if there are any."""
        if not self.layers or not self.values["bridge"]:
            return student
        from ctkd_search.distill.auxiliary import Bridged

        return Bridged(student, context, self.layers)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the distance of the statistics."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.layers:
            maps = output.more if self.values["bridge"] else [output.maps[layer - 1] for layer in self.layers]
            experts = [lesson.expert_outputs[TeacherOutput("statistics", layer)] for layer in self.layers]
            missed = [losses.statistics(own, expert) for own, expert in zip(maps, experts, strict=True)]
            terms["loss_statistics"] = self.weight * sum(missed[1:], missed[0])
        return terms


METHOD = FeatureStatistics
