"""Contrastive representation distillation (Tian, Krishnan, Isola; arXiv 1910.10699)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import CODE
from ctkd_search.distill.requests import EMBEDDING, Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.network import TappedNetwork


class ContrastiveRD(Method):
    """The student's embedding of an image is to be told from the expert's of images of other classes.

    Linear heads, which are trained with the student, bring both embeddings to one width and length 1: s_i and e_i for
    image i. A memory holds what they were when the image was last seen: s̄_i is moved to
    momentum · s̄_i + (1 - momentum) · s_i and brought to length 1, and ē_i likewise. With K negatives j, drawn from the
    images of other classes, and N training images,

    L = CE(z_s, y) + weight · (l(s, ē) + l(e, s̄)),
    l(a, b) = - mean over the batch of (log h(a_i, b_i) + Σ_j log(1 - h(a_i, b_j))),
    h(a, b) = P / (P + K / N), P = exp(a · b / temperature) / Z.

    Z is N times the mean of the exponentials in the first batch, and does not change. As in the authors' code, 1e-7 is
    added to denominators. Negatives are drawn anew for each image, with replacement. Where there are no more than K
    images, none are drawn: each one of another class counts as often as it would be drawn on average. A mixed image has
    the loss for each of its classes by their shares. The memory is part of a trial's checkpoint, which takes
    8 · N · width bytes more.
    """

    name: ClassVar[str] = "crd"
    summary: ClassVar[str] = "the expert's pooled embedding, told from those of images of other classes"
    paper: ClassVar[str] = "arXiv 1910.10699"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", 0.8, "weight of the contrast", "w=", range=Range(0), term="loss_contrast", source=CODE),
        Parameter(
            "temperature",
            0.07,
            "divisor of the cosines",
            "T=",
            range=ABOVE_ZERO,
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter(
            "momentum",
            0.5,
            "share of the old memory of an image in the new one",
            "m=",
            range=Range(0, 1, open_high=True),
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter(
            "negatives",
            16384,
            "images of other classes that each image is contrasted with",
            "K=",
            kind="int",
            range=Range(1),
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter(
            "width",
            128,
            "width to which linear heads bring both embeddings",
            "W=",
            kind="int",
            range=Range(1),
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("crd", "contrast of the embeddings (Tian et al., arXiv 1910.10699)"),
    )

    @property
    def needs(self) -> Needs:
        """Returns the expert's embedding; nothing if the weight is 0."""
        return Needs(expert=(EMBEDDING,) if self.values["weight"] > 0 else ())

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with the heads and the memory."""
        if not self.needs.any_expert:
            return student
        from ctkd_search.distill.contrast import Contrast, Contrastive

        return Contrastive(student, Contrast(context, self.values["width"], self.values["negatives"]))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the contrast, which updates the memory."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.needs.any_expert:
            embedding, contrast = output.more
            given = lesson.expert_outputs[EMBEDDING]
            missed = contrast(embedding.float(), given, lesson, self.temperature, self.momentum)
            terms["loss_contrast"] = self.weight * missed
        return terms


METHOD = ContrastiveRD
