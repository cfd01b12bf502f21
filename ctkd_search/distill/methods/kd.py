"""Knowledge distillation (Hinton, Vinyals, Dean; arXiv 1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import COMPARISONS
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson


class KD(Method):
    """Knowledge distillation from one trained teacher: the expert's softened predictions and the labels.

    L = (1 - weight) · CE(z_s, y) + weight · T² · KL(softmax(z_expert / T) ‖ softmax(z_s / T)).

    The defaults are those with which the distillation papers since (arXiv 1910.10699 and its followers) run it.
    """

    name: ClassVar[str] = "kd"
    summary: ClassVar[str] = "the expert's softened predictions beside the labels"
    paper: ClassVar[str] = "arXiv 1503.02531"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "temperature",
            4.0,
            "temperature that softens both logits",
            "T=",
            range=ABOVE_ZERO,
            only_with={"weight": ABOVE_ZERO},
            source=COMPARISONS,
        ),
        Parameter(
            "weight",
            0.9,
            "share of the expert's predictions beside the labels",
            "w=",
            range=Range(0, 1),
            term="loss_kd",
            source=COMPARISONS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("kd", "the expert's predictions (Hinton et al., arXiv 1503.02531)", usual=True),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's logits; nothing if the weight is 0."""
        return Needs(expert=(LOGITS,) if self.values["weight"] > 0 else ())

    @property
    def learns_labels(self) -> bool:
        """Returns whether the cross-entropy has a weight."""
        return bool(self.values["weight"] < 1)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and divergence, each with its share."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": (1 - self.weight) * losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            divergence = losses.softened_divergence(output.logits, lesson.expert_outputs[LOGITS], self.temperature)
            terms["loss_kd"] = self.weight * divergence
        return terms


METHOD = KD
