"""Relational knowledge distillation (Park, Kim, Lu, Cho; arXiv 1904.05068)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Baseline, Parameter
from ctkd_search.distill.methods.embedded import Embedded
from ctkd_search.distill.methods.parameter import COMPARISONS
from ctkd_search.distill.requests import EMBEDDING, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson


class RelationalKD(Embedded):
    """Distances and angles between the images of a batch in the space of the pooled embedding.

    With h Huber's loss with threshold 1, over a batch of B images with embeddings x,

    L = CE(z_s, y) + distance_weight · 1/B² Σ_ij h(d_ij^s - d_ij^e) + angle_weight · 1/B³ Σ_ijk h(c_ijk^s - c_ijk^e),

    d_ij = ‖x_i - x_j‖ / (its mean over all pairs i ≠ j), and c_ijk = cos ∠(x_j - x_i, x_k - x_i). The weights of the
    comparisons keep the paper's ratio of 1 to 2. Embeddings may differ in width. The angles take memory for B³ numbers.
    """

    name: ClassVar[str] = "rkd"
    summary: ClassVar[str] = "distances and angles between the images of a batch in the expert's pooled embedding"
    paper: ClassVar[str] = "arXiv 1904.05068"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "distance_weight",
            25.0,
            "weight of the distances between two images",
            "d=",
            range=Range(0),
            term="loss_distance",
            source=COMPARISONS,
        ),
        Parameter(
            "angle_weight",
            50.0,
            "weight of the angles between three images",
            "a=",
            range=Range(0),
            term="loss_angle",
            source=COMPARISONS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("rkd", "distances and angles between the images (Park et al., arXiv 1904.05068)"),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's embedding; nothing if both weights are 0."""
        weighed = self.values["distance_weight"] > 0 or self.values["angle_weight"] > 0
        return Needs(expert=(EMBEDDING,) if weighed else ())

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy, and the distances and the angles, each with its weight."""
        from ctkd_search.distill import losses, relation_losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            compared = output.more.float(), lesson.expert_outputs[EMBEDDING]
            if self.values["distance_weight"] > 0:
                terms["loss_distance"] = self.distance_weight * relation_losses.distances(*compared)
            if self.values["angle_weight"] > 0:
                terms["loss_angle"] = self.angle_weight * relation_losses.angles(*compared)
        return terms


METHOD = RelationalKD
