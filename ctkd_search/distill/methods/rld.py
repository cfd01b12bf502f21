"""Refined logit distillation (Sun, Chen, Lyu, Chen, Chen, Wang; arXiv 2408.07703)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Parameter
from ctkd_search.distill.methods.dkd import DKD
from ctkd_search.distill.methods.parameter import CODE
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting


class RLD(DKD):
    """The expert where it is right: its confidence, and its ranking of the classes below the right one.

    With p = softmax(z_e / T), q = softmax(z_s / T), m the expert's most probable class, and p̂, q̂ the same over the
    classes with z_e < z_e[y] alone,

    L = CE(z_s, y) + alpha · T_c² · KL((p_m, 1 - p_m) ‖ (q_y, 1 - q_y)) at the confidence_temperature T_c
        + beta · T² · KL(p̂ ‖ q̂) at the temperature T.

    Where the expert is wrong, the student is told how sure to be of the right class, and nothing of the classes that
    the expert prefers to it. Both parts grow over the first epochs, as those of DKD.
    """

    name: ClassVar[str] = "rld"
    summary: ClassVar[str] = "how sure the expert is, and its predictions among the classes below the right one"
    paper: ClassVar[str] = "arXiv 2408.07703"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "temperature",
            4.0,
            "temperature that softens the logits of the classes below the right one",
            "T=",
            range=ABOVE_ZERO,
            only_with={"beta": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter(
            "confidence_temperature",
            1.0,
            "temperature that softens the logits for the confidence",
            "cT=",
            range=ABOVE_ZERO,
            only_with={"alpha": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter("alpha", 1.0, "weight of the confidence", "a=", range=Range(0), term="loss_confidence", source=CODE),
        Parameter(
            "beta",
            8.0,
            "weight of the classes below the right one",
            "b=",
            range=Range(0),
            term="loss_correlation",
            source=CODE,
        ),
        *(item for item in DKD.parameters if item.name in ("warmup_share", "standardised")),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("rld", "refined logits (Sun et al., arXiv 2408.07703)", {"standardised": False}),
    )

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters of the classes below the right one if there are two classes, and DKD's warm-up."""
        found = super().idle(setting)
        if setting.classes == 2:
            reason = "of two classes at most one is below the right one, so that its divergence is always 0"
            found |= dict.fromkeys(("beta", "temperature"), reason)
        return found

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the two parts, each with its weight."""
        from ctkd_search.distill import logit_losses, losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            confidence, correlation = logit_losses.refined_divergences(
                *self.compared(output, lesson), lesson, self.confidence_temperature, self.temperature
            )
            if self.values["alpha"] > 0:
                terms["loss_confidence"] = self.warmth * self.alpha * confidence
            if self.values["beta"] > 0:
                terms["loss_correlation"] = self.warmth * self.beta * correlation
        return terms


METHOD = RLD
