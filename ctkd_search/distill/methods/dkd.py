"""Decoupled knowledge distillation (Zhao, Cui, Song, Qiu, Liang; arXiv 2203.08679)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import CODE
from ctkd_search.distill.methods.standardising import standardised, standardised_fault
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting

_AT_ONCE = "of {} epochs it is one at most, and the weights are whole from the first epoch on"


class DKD(Method):
    """Decoupled knowledge distillation: separate weights for the right class and for all others among themselves.

    With p = softmax(z / T) and p̂ = softmax(z / T) over all classes but the right one,

    L = CE(z_s, y) + T² · (alpha · KL((p_y, 1 - p_y) ‖ (q_y, 1 - q_y)) + beta · KL(p̂ ‖ q̂)),

    p for the expert and q for the student. In Hinton's form the second part is weighed by 1 - p_y, little where the
    expert is sure: KL(p ‖ q) = KL((p_y, 1 - p_y) ‖ (q_y, 1 - q_y)) + (1 - p_y) · KL(p̂ ‖ q̂). Both parts grow over the
    first epochs: in the authors' code over 20 of 240, here over a share, because budgets differ.
    """

    name: ClassVar[str] = "dkd"
    summary: ClassVar[str] = "the expert's predictions, the right class and the others weighed apart"
    paper: ClassVar[str] = "arXiv 2203.08679"
    scheduled: ClassVar[tuple[str, ...]] = ("warmth",)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "temperature",
            4.0,
            "temperature that softens the expert's logits and the student's",
            "T=",
            range=ABOVE_ZERO,
            source=CODE,
        ),
        Parameter(
            "alpha",
            1.0,
            "weight of the right class against all others",
            "a=",
            range=Range(0),
            term="loss_target",
            source=CODE,
        ),
        Parameter(
            "beta",
            8.0,
            "weight of the other classes among themselves",
            "b=",
            range=Range(0),
            term="loss_others",
            source="the authors' code, which has 2, 6 or 8 by pair",
        ),
        Parameter(
            "warmup_share",
            20 / 240,
            "share of the epochs over which both weights grow linearly to their value",
            "w%",
            range=Range(0, 1),
            source=CODE,
        ),
        standardised({}),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("dkd", "decoupled knowledge distillation (Zhao et al., arXiv 2203.08679)", {"standardised": False}),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's logits; nothing if both weights are 0."""
        return Needs(expert=(LOGITS,) if self.values["alpha"] > 0 or self.values["beta"] > 0 else ())

    def setting_fault(self, setting: Setting) -> str | None:
        """Refuses standardised logits of two classes."""
        return standardised_fault(self, setting, "standardised")

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns beta for two classes, because one wrong class has no others, and a warm-up of one epoch or less."""
        found = {}
        if setting.classes == 2:
            found["beta"] = "of two classes only one is wrong, so that the divergence among those is always 0"
        if 0 < self.values["warmup_share"] * setting.epochs <= 1:
            found["warmup_share"] = _AT_ONCE.format(setting.epochs)
        return found

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the share of the weights by the warm-up."""
        warmup = self.values["warmup_share"] * epochs
        self.set_number("warmth", min(1.0, (epoch + 1) / warmup) if warmup else 1.0)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the two parts, each with its weight."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            compared = self.compared(output, lesson)
            target, others = losses.decoupled_divergences(*compared, lesson, self.temperature)
            if self.values["alpha"] > 0:
                terms["loss_target"] = self.warmth * self.alpha * target
            if self.values["beta"] > 0:
                terms["loss_others"] = self.warmth * self.beta * others
        return terms

    def compared(self, output: StudentOutput, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Returns the student's logits and the expert's, standardised if asked for."""
        from ctkd_search.distill import logit_losses

        student, expert = output.logits, lesson.expert_outputs[LOGITS]
        if not self.values["standardised"]:
            return student, expert
        return logit_losses.standardised(student), logit_losses.standardised(expert)


METHOD = DKD
