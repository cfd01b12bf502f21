"""Route constrained optimization (Jin, Peng, Wu, Liu, Liu, Liang, Yan, Hu; arXiv 1904.09149)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ctkd_search.distill.methods.base import Baseline, Parameter
from ctkd_search.distill.methods.kd import KD
from ctkd_search.distill.methods.parameter import OURS
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Range


class RCO(KD):
    """The expert as it was along its own training: early predictions first, which are easier to follow.

    L = (1 - weight) · CE(z_s, y) + weight · T² · KL(softmax(z_a / T) ‖ softmax(z_s / T)), where a is the anchor of the
    current epoch. The n anchors stand at equal distances along the expert's training (the paper's equal-epoch-interval
    strategy), after 1/n, 2/n, ... and all of its epochs, and each teaches for an equal stretch of the student's.
    The student's learning rate follows its recipe over all epochs; it does not begin again with each anchor.
    """

    name: ClassVar[str] = "rco"
    summary: ClassVar[str] = "the predictions of the expert along its own training, from its first epochs to its end"
    paper: ClassVar[str] = "arXiv 1904.09149"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        *KD.parameters,
        Parameter(
            "anchors",
            4,
            "at how many points of its training the expert teaches",
            "n=",
            kind="int",
            range=Range(2),
            only_with={"weight": Range(0, open_low=True)},
            note="at equal distances, the last at its end",
            source=OURS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline(
            "rco",
            "the expert's predictions along its own training (Jin et al., arXiv 1904.09149)",
            {"standardised": False},
        ),
    )

    def epochs_fault(self, epochs: int) -> str | None:
        """Refuses fewer epochs than anchors, because the end of the expert's training would never teach."""
        anchors = self.values["anchors"]
        if self.values["weight"] > 0 and anchors > epochs:
            return (
                f"anchors must be at most the epochs {epochs}, because each teaches for one at least, but got {anchors}"
            )
        return None

    @property
    def needs(self) -> Needs:
        """Returns the logits of the anchors; nothing if the weight is 0."""
        count = self.values["anchors"]
        anchors = tuple(number / count for number in range(1, count + 1))
        return dataclasses.replace(super().needs, anchors=anchors) if super().needs.any_expert else Needs()


METHOD = RCO
