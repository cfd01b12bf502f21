"""Weighted transformed teacher matching (Zheng, Yang; arXiv 2402.11148)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson

_EXAMPLE = "the example in the authors' code"


class WTTM(Method):
    """The expert's predictions raised to a power, images weighed by their power sum; the student is not softened.

    L = CE(z_s, y) + weight · mean over the batch of u · KL(p^gamma / u ‖ softmax(z_s)), with p = softmax(z_e) and
    u = Σ_c p_c^gamma.

    A power gamma is a temperature of 1 / gamma for the expert alone. u is between 1, where the expert is sure, and
    C^(1 - gamma) for C classes, where it knows nothing. Without the weights (``weighted: false``) it is the paper's
    transformed teacher matching, TTM, whose own weight is larger: 45 in the authors' example, with gamma 0.1.

    Its logits are not standardised: that would soften the student's too, which the method is about not to do.
    """

    name: ClassVar[str] = "wttm"
    summary: ClassVar[str] = "a power of the expert's predictions, more where it is unsure; the student is not softened"
    paper: ClassVar[str] = "arXiv 2402.11148"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "gamma",
            0.2,
            "power of the expert's predictions; 1 leaves them as they are",
            "g=",
            range=ABOVE_ZERO,
            only_with={"weight": ABOVE_ZERO},
            source=_EXAMPLE,
        ),
        Parameter(
            "weight",
            4.0,
            "weight of the expert's predictions beside the labels",
            "w=",
            range=Range(0),
            term="loss_matching",
            source=_EXAMPLE,
        ),
        Parameter(
            "weighted",
            True,
            "whether images are weighed by the sum of their powers",
            "weighted=",
            kind="choice",
            choices=(True, False),
            only_with={"weight": ABOVE_ZERO},
            source="the paper's WTTM; its TTM has no weights",
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("wttm", "a power of the expert's predictions (Zheng and Yang, arXiv 2402.11148)", {"weighted": True}),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's logits; nothing if the weight is 0."""
        return Needs(expert=(LOGITS,) if self.values["weight"] > 0 else ())

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and divergence, with its weight."""
        from ctkd_search.distill import logit_losses, losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            terms["loss_matching"] = self.weight * logit_losses.transformed_divergence(
                output.logits, lesson.expert_outputs[LOGITS], self.gamma, self.values["weighted"]
            )
        return terms


METHOD = WTTM
