"""Probabilistic knowledge transfer (Passalis, Tefas; arXiv 1803.10837)."""

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


class ProbabilisticTransfer(Embedded):
    """Probabilities with which the images of a batch are neighbours in the space of the pooled embedding.

    With K(a, b) = (cos(a, b) + 1) / 2 and p(j | i) = K(x_i, x_j) / Σ_k K(x_i, x_k) over a batch of B images,

    L = CE(z_s, y) + weight · 1/B² Σ_i Σ_j p_e(j | i) · log(p_e(j | i) / p_s(j | i)).

    The paper transfers without labels; beside them, and with this weight, it is run in the comparisons since. As in the
    authors' code, an image is also its own neighbour. Embeddings may differ in width.
    """

    name: ClassVar[str] = "pkt"
    summary: ClassVar[str] = "which images of a batch are neighbours by the expert's pooled embedding"
    paper: ClassVar[str] = "arXiv 1803.10837"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "weight",
            30000.0,
            "weight of the divergence of the neighbours' probabilities",
            "w=",
            range=Range(0),
            term="loss_neighbours",
            source=COMPARISONS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("pkt", "neighbours by the pooled embedding (Passalis and Tefas, arXiv 1803.10837)"),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's embedding; nothing if the weight is 0."""
        return Needs(expert=(EMBEDDING,) if self.values["weight"] > 0 else ())

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the divergence of the neighbours."""
        from ctkd_search.distill import losses, relation_losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            missed = relation_losses.neighbours(output.more.float(), lesson.expert_outputs[EMBEDDING])
            terms["loss_neighbours"] = self.weight * missed
        return terms


METHOD = ProbabilisticTransfer
