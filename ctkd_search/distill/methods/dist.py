"""Distillation from a stronger teacher (Huang, You, Wang, Qian, Xu; arXiv 2205.10536)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import PAPER
from ctkd_search.distill.methods.standardising import standardised, standardised_fault
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting


class DIST(Method):
    """Relations between predictions instead of the predictions themselves, which a far stronger expert has otherwise.

    With p = softmax(z / T) and Pearson's correlation ρ, over a batch of B images i and C classes c,

    L = CE(z_s, y) + beta · T² · (1 - 1/B Σ_i ρ(p_s[i, :], p_e[i, :]))
        + gamma · T² · (1 - 1/C Σ_c ρ(p_s[:, c], p_e[:, c])).

    The first compares the classes of an image, the second the images of the batch by the probability of a class.
    """

    name: ClassVar[str] = "dist"
    summary: ClassVar[str] = "how the expert's predictions correlate with the student's, by image and by class"
    paper: ClassVar[str] = "arXiv 2205.10536"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "temperature",
            4.0,
            "temperature that softens the expert's logits and the student's",
            "T=",
            range=ABOVE_ZERO,
            source="the paper for CIFAR-100; it has 1 for ImageNet",
        ),
        Parameter(
            "beta",
            2.0,
            "weight of the relation between the classes of an image",
            "b=",
            range=Range(0),
            term="loss_between",
            source=PAPER,
        ),
        Parameter(
            "gamma",
            2.0,
            "weight of the relation within a class, between the images of a batch",
            "g=",
            range=Range(0),
            term="loss_within",
            source=PAPER,
        ),
        standardised({}),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("dist", "relations between predictions (Huang et al., arXiv 2205.10536)", {"standardised": False}),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's logits; nothing if both weights are 0."""
        return Needs(expert=(LOGITS,) if self.values["beta"] > 0 or self.values["gamma"] > 0 else ())

    def setting_fault(self, setting: Setting) -> str | None:
        """Refuses standardised logits of two classes."""
        return standardised_fault(self, setting, "standardised")

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns beta for two classes, whose probabilities are always correlated by 1 or -1."""
        if setting.classes > 2:
            return {}
        return {"beta": "the correlation over two classes is always 1 or -1, and no step can change it"}

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and both relations, each with its weight."""
        from ctkd_search.distill import logit_losses, losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            compared = output.logits, lesson.expert_outputs[LOGITS]
            if self.values["standardised"]:
                compared = logit_losses.standardised(compared[0]), logit_losses.standardised(compared[1])
            between, within = logit_losses.relations(*compared, self.temperature)
            if self.values["beta"] > 0:
                terms["loss_between"] = self.beta * between
            if self.values["gamma"] > 0:
                terms["loss_within"] = self.gamma * within
        return terms


METHOD = DIST
