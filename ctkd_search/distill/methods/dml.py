"""Deep mutual learning (Zhang, Xiang, Hospedales, Lu; arXiv 1706.00384)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Baseline, Method, Parameter
from ctkd_search.distill.methods.parameter import OURS, PAPER
from ctkd_search.distill.requests import Needs
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.network import TappedNetwork


class DML(Method):
    """Two untrained networks that teach each other: the student, and a peer that is trained in the same steps.

    L = CE(z_s, y) + weight · KL(p_peer ‖ p_s) for the student and CE(z_peer, y) + weight · KL(p_s ‖ p_peer) for the
    peer, where no gradient flows to the other network. The paper updates one after the other and weighs the divergence
    by 1; here both learn from the outputs before the step. The peer is trained by the student's recipe, and is not
    kept.
    """

    name: ClassVar[str] = "dml"
    summary: ClassVar[str] = "a peer that learns from the student while the student learns from it"
    paper: ClassVar[str] = "arXiv 1706.00384"
    auxiliary: ClassVar[str] = "the peer"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "weight", 1.0, "weight of what the other predicts", "w=", range=Range(0), term="loss_mutual", source=PAPER
        ),
        Parameter(
            "peer",
            "teacher",
            "architecture of the peer",
            "p:",
            kind="choice",
            choices=("teacher", "student"),
            only_with={"weight": Range(0, open_low=True)},
            note="`teacher`: the pair's teacher, untrained; `student`: the student's own",
            source=OURS,
        ),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("dml", "mutual learning with an untrained teacher (Zhang et al., arXiv 1706.00384)"),
    )

    @property
    def needs(self) -> Needs:
        """Returns nothing: the peer's outputs depend on the student and cannot be recorded."""
        return Needs()

    @property
    def has_teacher(self) -> bool:
        """Returns whether the peer is the pair's teacher, and has a weight."""
        return bool(self.values["weight"]) and self.values["peer"] == "teacher"

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the choice of the peer if both networks of the pair have one architecture."""
        if setting.teacher.name == setting.student.name:
            return {"peer": f"teacher and student are both {setting.student.name}"}
        return {}

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with its peer, or alone if the divergence has no weight."""
        if not self.values["weight"]:
            return student
        from ctkd_search.distill.auxiliary import WithPeer

        architecture = context.teacher if self.values["peer"] == "teacher" else context.student
        return WithPeer(student, context.build(architecture.name, "peer"))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy and divergence of the student, then of its peer."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            peer = output.more.float()
            terms["loss_mutual"] = self.weight * losses.softened_divergence(output.logits, peer, 1.0)
            terms["loss_peer"] = losses.cross_entropy(peer, lesson)
            terms["loss_peer_mutual"] = self.weight * losses.softened_divergence(peer, output.logits, 1.0)
        return terms


METHOD = DML
