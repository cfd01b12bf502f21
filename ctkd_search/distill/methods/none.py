"""No distillation: the student learns from the labels alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.methods.base import Answer, Baseline, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.teachers import Lesson


class Alone(Method):
    """L = CE(z_s, y)."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "the labels alone, without any teacher"
    teacherless: ClassVar[bool] = True
    baselines: ClassVar[tuple[Baseline, ...]] = (Baseline("student-alone", "the student without any teacher"),)

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def terms(self, answer: Answer, lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy."""
        from ctkd_search.distill import losses

        return {"loss_ce": losses.F.cross_entropy(answer.logits, lesson.labels)}


METHOD = Alone
