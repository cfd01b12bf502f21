"""Student Helping Teacher: Teacher Evolution via Self-Knowledge Distillation (Li et al., arXiv 2110.00329)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import CODE
from ctkd_search.distill.methods.standardising import standardised, standardised_fault
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork

_BRANCHES = ("branch_weight", "distill_weight", "feature_weight")


class TESKD(Method):
    """A network that teaches branches on its feature maps, and learns through them.

    With the network's logits z and pooled features f, over the branches b of `ctkd_search.distill.branches`:

        L = label_weight · CE(z, y) + branch_weight · Σ_b CE(z_b, y)
            + distill_weight · Σ_b T² · KL(softmax(z / T) ‖ softmax(z_b / T))
            + feature_weight · Σ_b Σ (f_b - stop_grad(f))² where f_b > 0 or f > 0, summed over the batch.

    z is not detached: the divergence teaches the network too, as do all of the branches' terms through its maps. There
    is no other teacher than the network itself, and it alone is evaluated and deployed.
    """

    name: ClassVar[str] = "teskd"
    summary: ClassVar[str] = "branches on the network's own feature maps, which it teaches and learns through"
    paper: ClassVar[str] = "arXiv 2110.00329"
    auxiliary: ClassVar[str] = "a set of branches on its feature maps"
    teacherless: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "label_weight", 0.2, "weight of the network's own cross-entropy", "l=", range=ABOVE_ZERO, source=CODE
        ),
        Parameter(
            "branch_weight",
            0.2,
            "weight of the branches' cross-entropy",
            "b=",
            range=Range(0),
            term="loss_branches",
            source=CODE,
        ),
        Parameter(
            "distill_weight",
            0.8,
            "weight of the divergence between the network's softened predictions and the branches'",
            "d=",
            range=Range(0),
            term="loss_distill",
            source=CODE,
        ),
        Parameter(
            "temperature",
            4.0,
            "temperature that softens the predictions of the network and its branches",
            "T=",
            range=ABOVE_ZERO,
            only_with={"distill_weight": ABOVE_ZERO},
            source=CODE,
        ),
        standardised({"distill_weight": ABOVE_ZERO}, whose="the network's and its branches'"),
        Parameter(
            "feature_weight",
            1e-7,
            "weight of the distance between the branches' features and the network's, which is summed over the batch",
            "f=",
            range=Range(0),
            term="loss_feature",
            source=CODE,
        ),
        Parameter(
            "branch_width",
            1.0,
            "channels of the branches, as a multiple of those of the network's last feature map",
            "w=",
            kind="choice",
            choices=(0.125, 0.25, 0.5, 1.0, 2.0),
            source=CODE,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline(
            "teskd", "the student with branches that it teaches (Li et al., arXiv 2110.00329)", {"standardised": False}
        ),
    )

    @property
    def branched(self) -> bool:
        """Returns whether any term of the branches has a weight."""
        return any(self.values[weight] > 0 for weight in _BRANCHES)

    @property
    def needs(self) -> Needs:
        """Returns nothing."""
        return Needs()

    def canonical(self) -> MethodConfig:
        """Returns the student alone if the branches have no weight and the labels one of 1."""
        if not self.branched and self.values["label_weight"] == 1:
            return MethodConfig("none")
        config = super().canonical()
        if self.branched:
            return config
        return MethodConfig(config.name, {key: value for key, value in config.values.items() if key != "branch_width"})

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with its branches."""
        from ctkd_search.distill.branches import Branches
        from ctkd_search.models.registry import maps

        if not self.branched:
            return student
        shapes = maps(context.student.name, context.geometry)
        width = max(1, int(shapes[-1].channels * self.values["branch_width"]))
        with context.seeded("branches"):
            return Branches(student, shapes, context.geometry.classes, width)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the cross-entropy of network and branches, their divergence, and the distance of their features."""
        from ctkd_search.distill import logit_losses, losses

        terms = {"loss_ce": self.label_weight * losses.cross_entropy(output.logits, lesson)}
        if not self.branched:
            return terms
        logits = [branch.float() for branch in output.more.logits]
        if self.values["branch_weight"] > 0:
            terms["loss_branches"] = self.branch_weight * _sum(
                losses.cross_entropy(branch, lesson) for branch in logits
            )
        if self.values["distill_weight"] > 0:
            own, compared = output.logits, logits
            if self.values["standardised"]:
                own, compared = logit_losses.standardised(own), [logit_losses.standardised(one) for one in logits]
            terms["loss_distill"] = self.distill_weight * _sum(
                losses.mutual_divergence(branch, own, self.temperature) for branch in compared
            )
        if self.values["feature_weight"] > 0:
            own = output.more.backbone.float()
            terms["loss_feature"] = self.feature_weight * _sum(
                losses.active_distance(features.float(), own) for features in output.more.features
            )
        return terms

    def setting_fault(self, setting: Setting) -> str | None:
        """Refuses standardised logits of two classes."""
        return standardised_fault(self, setting, "standardised")

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Returns why a student cannot have branches, or None: they need two feature maps."""
        if self.branched and len(student.taps) < 2:
            return f"{student.name} has one feature map, and the branches of {self.name} need two or more"
        return None


def _sum(terms: Iterable[Tensor]) -> Tensor:
    first, *others = terms
    return sum(others, first)


METHOD = TESKD
