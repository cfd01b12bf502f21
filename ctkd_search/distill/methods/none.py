"""No distillation: the student learns from the labels alone, which may be smoothed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import OURS
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson


class Alone(Method):
    """L = CE(z_s, q), where q is the label, or (1 - label_smoothing) · label + label_smoothing / classes.

    Its own smoothing takes the place of the recipe's.
    """

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "the labels alone, without any teacher"
    teacherless: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "label_smoothing",
            0.0,
            "share of each label that is spread evenly over all classes (Szegedy et al., arXiv 1512.00567)",
            "s=",
            range=Range(0, 1, open_high=True),
            source=OURS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("student-alone", "the student without any teacher", {"label_smoothing": 0.0}, usual=True),
        Baseline(
            "label-smoothing",
            "the student without any teacher, a tenth of each label spread (Szegedy et al., arXiv 1512.00567)",
            {"label_smoothing": 0.1},
        ),
    )

    @property
    def needs(self) -> Needs:
        """Returns nothing."""
        return Needs()

    def canonical(self) -> MethodConfig:
        """Returns the smoothing if there is any."""
        return super().canonical() if self.values["label_smoothing"] else MethodConfig(self.name)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the cross-entropy."""
        from ctkd_search.distill import losses

        if self.values["label_smoothing"]:
            lesson = dataclasses.replace(lesson, smoothing=self.label_smoothing)
        return {"loss_ce": losses.cross_entropy(output.logits, lesson)}


METHOD = Alone
