"""Knowledge review (Chen, Liu, Zhao, Jia; arXiv 2104.09044)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import CODE
from ctkd_search.distill.requests import EMBEDDING, Needs, TeacherOutput
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.network import TappedNetwork


class KnowledgeReview(Method):
    """The expert's maps are predicted from the student's maps of the same level and of all deeper ones.

    From the deepest level to the first, with the pooled embedding as the deepest, a map of one position:

    x = BN(conv1x1(F_s));  where a deeper level has passed on r, resized to x:  (a, b) = sigmoid(conv1x1([x, r])),
    x = a · x + b · r;  resized to the expert's map, x is passed on, and R = BN(conv3x3(x)) is compared with F_e:

    L = CE(z_s, y) + weight · Σ over the levels of HCL(R, F_e),

    where HCL is the weighted mean of the mean squared differences of both maps as they are (weight 1), and averaged
    down to 4x4, 2x2 and 1x1 positions (1/2, 1/4, 1/8). What is passed on has as many channels as the student's deepest
    level, and at most 512. Resizing copies the nearest position.

    The weight grows over the first epochs: in the authors' code over 20 of 240, here over a share, and not from 0, as
    in the comparisons since. The authors take the expert's maps before their last ReLU; here they are the outputs of
    the stages, which have none in wide ResNets. The maps are too large to be recorded, so that the expert computes them
    in the trials.
    """

    name: ClassVar[str] = "reviewkd"
    summary: ClassVar[str] = "the expert's feature maps, predicted from the student's of the same level and deeper"
    paper: ClassVar[str] = "arXiv 2104.09044"
    scheduled: ClassVar[tuple[str, ...]] = ("warmth",)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "weight",
            5.0,
            "weight of the review",
            "w=",
            range=Range(0),
            term="loss_review",
            source="the authors' code, which has 0.6 to 8 by pair",
        ),
        Parameter(
            "review_layers",
            (1, 2, 3),
            "which feature maps are reviewed",
            "L",
            kind="layers",
            only_with={"weight": ABOVE_ZERO},
            all_layers=True,
            source=CODE,
        ),
        Parameter(
            "review_embedding",
            True,
            "whether the review begins with the pooled embedding",
            "emb=",
            kind="choice",
            choices=(False, True),
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
        Parameter(
            "warmup_share",
            20 / 240,
            "share of the epochs over which the weight grows linearly to its value",
            "w%",
            range=Range(0, 1),
            only_with={"weight": ABOVE_ZERO},
            source=CODE,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("reviewkd", "knowledge review (Chen et al., arXiv 2104.09044)", {"review_embedding": True}),
    )

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the reviewed layers in ascending order; none if they have no weight."""
        return tuple(sorted(self.values["review_layers"])) if self.values["weight"] > 0 else ()

    @property
    def needs(self) -> Needs:
        """Returns the expert's maps, and its embedding if that is reviewed."""
        features = tuple(TeacherOutput("features", layer) for layer in self.layers)
        return Needs(expert=(*features, EMBEDDING) if features and self.values["review_embedding"] else features)

    @property
    def least_batch(self) -> int:
        """Returns 2 if the embedding is reviewed, because it is normalised over the batch alone."""
        return 2 if EMBEDDING in self.needs.expert else 1

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns a warm-up of one epoch or less."""
        if 0 < self.values["warmup_share"] * setting.epochs <= 1:
            reason = f"of {setting.epochs} epochs it is one at most, and the weight is whole from the first epoch on"
            return {"warmup_share": reason}
        return {}

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the share of the weight by the warm-up."""
        warmup = self.values["warmup_share"] * epochs
        self.set_number("warmth", min(1.0, (epoch + 1) / warmup) if warmup else 1.0)

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with its review."""
        if not self.layers:
            return student
        from ctkd_search.distill.review import Reviewed

        return Reviewed(student, context, self.layers, self.values["review_embedding"])

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and the distance of the reviewed levels."""
        from ctkd_search.distill import losses, review

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.layers:
            given = [lesson.expert_outputs[asked] for asked in self.needs.expert]
            shaped = [each[:, :, None, None] if each.dim() == 2 else each for each in given]
            missed = [review.context_distance(*both) for both in zip(output.more, shaped, strict=True)]
            terms["loss_review"] = self.warmth * self.weight * sum(missed[1:], missed[0])
        return terms


METHOD = KnowledgeReview
