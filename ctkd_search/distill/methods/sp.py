"""Similarity-preserving distillation (Tung, Mori; arXiv 1907.09682)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Parameter
from ctkd_search.distill.methods.embedded import Embedded
from ctkd_search.distill.methods.parameter import COMPARISONS, PAPER
from ctkd_search.distill.requests import EMBEDDING, Needs, TeacherOutput
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson


class SimilarityPreserving(Embedded):
    """Similarities of the images of a batch: images that activate the expert alike should activate the student alike.

    With Q the activations of a network, one row for each image of a batch of B, and G̃ the matrix Q · Qᵀ with each row
    divided by its L2 norm,

    L = CE(z_s, y) + weight · Σ over the compared activations of ‖G̃_e - G̃_s‖² / B².

    The paper takes the feature maps of the last convolutions, flattened with their positions. They are too large to be
    recorded, so that the expert computes them in the trials. ``activations: embedding`` compares the pooled embeddings
    instead, which are recorded and replayed; the positions are then lost. Maps and embeddings may differ in size and
    width.
    """

    name: ClassVar[str] = "sp"
    summary: ClassVar[str] = "how similar the images of a batch are to each other in the expert's feature maps"
    paper: ClassVar[str] = "arXiv 1907.09682"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "weight",
            3000.0,
            "weight of the similarities",
            "w=",
            range=Range(0),
            term="loss_similarity",
            source=COMPARISONS,
        ),
        Parameter(
            "activations",
            "maps",
            "what the similarities are computed from",
            kind="choice",
            choices=("maps", "embedding"),
            only_with={"weight": ABOVE_ZERO},
            note="`maps`: feature maps, which the expert computes in the trials; `embedding`: the pooled embedding, "
            "which is recorded",
            source=PAPER,
        ),
        Parameter(
            "similarity_layers",
            (3,),
            "which feature maps are compared",
            "L",
            kind="layers",
            only_with={"weight": ABOVE_ZERO, "activations": ("maps",)},
            last_layer=True,
            source=COMPARISONS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("sp", "similarities of the images (Tung and Mori, arXiv 1907.09682)", {"activations": "maps"}),
        Baseline("sp-embedding", "sp of the pooled embedding, which is recorded", {"activations": "embedding"}),
    )

    @property
    def needs(self) -> Needs:
        """Returns the compared activations; nothing if they have no weight."""
        if not self.values["weight"]:
            return Needs()
        if self.values["activations"] == "embedding":
            return Needs(expert=(EMBEDDING,))
        return Needs(expert=tuple(TeacherOutput("features", layer) for layer in self.values["similarity_layers"]))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the distance of the similarities."""
        from ctkd_search.distill import losses, relation_losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            missed = []
            for asked in self.needs.expert:
                own = output.more if asked == EMBEDDING else output.maps[asked.layer - 1]
                missed.append(relation_losses.similarity(own.float(), lesson.expert_outputs[asked]))
            terms["loss_similarity"] = self.weight * sum(missed[1:], missed[0])
        return terms


METHOD = SimilarityPreserving
