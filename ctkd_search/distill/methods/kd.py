"""Knowledge distillation (Hinton, Vinyals, Dean; arXiv 1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import COMPARISONS
from ctkd_search.distill.methods.standardising import standardised, standardised_fault
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting


class KD(Method):
    """Knowledge distillation from one trained teacher: the expert's softened predictions and the labels.

    L = (1 - weight) · CE(z_s, y) + weight · T² · KL(softmax(z_expert / T) ‖ softmax(z_s / T)).

    The defaults are those with which the distillation papers since (arXiv 1910.10699 and its followers) run it.

    With standardised logits (arXiv 2403.01427) both z of the divergence are replaced by their z-scores over the
    classes, and the divergence is multiplied by standardised_factor: the authors weigh it by 9 instead of 0.9, at
    temperature 2.
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
        standardised({"weight": ABOVE_ZERO}),
        Parameter(
            "standardised_factor",
            10.0,
            "factor of the divergence of standardised logits",
            "sf=",
            range=ABOVE_ZERO,
            only_with={"standardised": (True,), "weight": ABOVE_ZERO},
            source="the code of arXiv 2403.01427, which weighs them by 9 instead of 0.9",
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline(
            "kd",
            "the expert's predictions (Hinton et al., arXiv 1503.02531)",
            {"standardised": False},
            usual=True,
        ),
        Baseline(
            "kd-standardised",
            "the expert's predictions, from standardised logits (Sun et al., arXiv 2403.01427)",
            {"temperature": 2.0, "weight": 0.9, "standardised": True, "standardised_factor": 10.0},
        ),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's logits; nothing if the weight is 0."""
        return Needs(expert=(LOGITS,) if self.values["weight"] > 0 else ())

    @property
    def learns_labels(self) -> bool:
        """Returns whether the cross-entropy has a weight."""
        return bool(self.values["weight"] < 1)

    @property
    def softens_logits(self) -> bool:
        """Returns whether the logits are not standardised, for which all of them count."""
        return not self.values["standardised"]

    def setting_fault(self, setting: Setting) -> str | None:
        """Refuses standardised logits of two classes."""
        return standardised_fault(self, setting, "standardised")

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and divergence, each with its share."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": (1 - self.weight) * losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            terms["loss_kd"] = self.weight * self.divergence(output.logits, lesson.expert_outputs[LOGITS])
        return terms

    def divergence(self, student: Tensor, expert: Tensor) -> Tensor:
        """Computes the divergence of the softened predictions, without its weight."""
        from ctkd_search.distill import logit_losses, losses

        if not self.values["standardised"]:
            return losses.softened_divergence(student, expert, self.temperature)
        student, expert = logit_losses.standardised(student), logit_losses.standardised(expert)
        return self.standardised_factor * losses.softened_divergence(student, expert, self.temperature)


METHOD = KD
