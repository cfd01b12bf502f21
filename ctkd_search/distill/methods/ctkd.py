"""Collaborative Teaching Knowledge Distillation (Zhao et al., arXiv 1907.09643)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Method, Parameter, methods
from ctkd_search.distill.methods.parameter import CODE, OURS, PAPER
from ctkd_search.distill.methods.standardising import standardised, standardised_fault
from ctkd_search.distill.requests import LOGITS, Needs, TeacherOutput
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting

SCRATCH, AVERAGE, EXPERT, TO_EXPERT = "scratch", "average", "expert", "to-expert"
_WEIGHTS = ("first_weight", "last_weight")
_SCHEDULES = ("constant", "linear", "first")
_WHOSE = {
    SCRATCH: "the scratch teacher's logits",
    AVERAGE: "the logits of the scratch teacher's running average",
    EXPERT: "the expert's logits",
    TO_EXPERT: "the scratch teacher's logits at first and the expert's in the end",
}
_ONE_EPOCH = "there is one epoch, which begins with the whole weight"


def attention_faults(layers: Sequence[int], sides: Mapping[int, int]) -> dict[str, str]:
    """Returns the parameters of an attention loss without effect: a normalised map of one position is always 1.

    Args:
        layers: The compared layers.
        sides: Side of the map at which each layer is compared.
    """
    single = [str(layer) for layer in layers if sides.get(layer) == 1]
    if not single:
        return {}
    several = "s" if len(single) > 1 else ""
    reason = f"the map{several} of layer{several} {', '.join(single)} {'have' if several else 'has'} one position, "
    reason += "and a normalised map of one position is always 1"
    left = [str(layer) for layer, side in sides.items() if side > 1]
    found = {"attention_layers": reason + (f"; layers with more: {', '.join(left)}" if left else "")}
    return found if left else {**found, "beta": reason}


def _schedule(weight: str, what: str) -> tuple[Parameter, Parameter]:
    """Returns the parameters of the schedule of a weight over the epochs."""
    schedule = Parameter(
        f"{weight}_schedule",
        "constant",
        f"how the weight of the {what} changes over the epochs",
        f"{weight[0]}:",
        kind="choice",
        choices=_SCHEDULES,
        only_with={weight: ABOVE_ZERO},
        note="`linear`: down to zero at the end; `first`: for the first epochs only",
        source=PAPER,
    )
    share = Parameter(
        f"{weight}_share",
        0.5,
        f"share of the epochs with {what}, in {weight}_schedule first",
        f"{weight[0]}%",
        range=Range(0, 1, open_low=True, open_high=True),
        only_with={f"{weight}_schedule": ("first",), weight: ABOVE_ZERO},
        source=OURS,
    )
    return schedule, share


class CTKD(Method):
    """Two teachers at once: logits of a scratch teacher at every step, attention maps of an expert.

    L = CE(z_s, y) + alpha · L_step(z_s, z_scratch) + beta · Σ_j w_j · L_att(F_s^j, F_e^j), where no gradient reaches
    either teacher, w_j = 1 and L_att is the mean square of the difference of the attention maps.

    Not in the paper, and off by default:

    - the expert's predictions, + expert_kd · T² · KL(softmax(z_e / T) ‖ softmax(z_s / T)), and weights that change over
      the epochs;
    - other logits for the step loss: those of the running average of the scratch teacher's weights over an epoch, the
      expert's, or (1 - t) · L_step(z_s, z_scratch) + t · L_step(z_s, z_e), where t grows from 0 in the first epoch to 1
      in the last;
    - the cosine distance of attention maps, L_att = s · (1 - cos), where s is the mean over the compared layers of 2
      divided by their positions: so the sum is that of the mean squares if all layers' cosines are the same, but each
      layer counts alike, where the mean square is larger in maps of fewer positions;
    - w_j = first_weight and last_weight for the first and the last of the compared layers.
    """

    name: ClassVar[str] = "ctkd"
    summary: ClassVar[str] = "a scratch teacher's logits at every step, and an expert's attention maps"
    paper: ClassVar[str] = "arXiv 1907.09643"
    scheduled: ClassVar[tuple[str, ...]] = ("alpha_now", "beta_now", "expert_now")
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "step_loss",
            "kl",
            "how the student follows the scratch teacher's logits",
            kind="choice",
            choices=("kl", "mse"),
            only_with={"alpha": ABOVE_ZERO},
            note="`kl`: the divergence of softened predictions; `mse`: the squared distance, as in the authors' code",
            source="Hinton's form; the authors' code has mse",
        ),
        Parameter(
            "temperature",
            4.0,
            "temperature that softens both logits in step_loss kl",
            "T=",
            range=ABOVE_ZERO,
            only_with={"step_loss": ("kl",), "alpha": ABOVE_ZERO},
            source=CODE,
        ),
        standardised({"step_loss": ("kl",), "alpha": ABOVE_ZERO}),
        Parameter(
            "step_teacher",
            SCRATCH,
            "whose logits the step loss follows",
            "of ",
            kind="choice",
            choices=(SCRATCH, AVERAGE, EXPERT, TO_EXPERT),
            only_with={"alpha": ABOVE_ZERO},
            note="`average`: the running average of the scratch teacher's weights over an epoch; `to-expert`: from the "
            "scratch teacher's to the expert's, linearly over the epochs",
            source=PAPER,
        ),
        Parameter("alpha", 1.0, "weight of the step loss", "a=", range=Range(0), term="loss_step", source=OURS),
        *_schedule("alpha", "step loss"),
        Parameter(
            "beta",
            1000.0,
            "weight of the attention loss",
            "b=",
            range=Range(0),
            term="loss_attention",
            side=32,
            source="the code of arXiv 1612.03928",
        ),
        *_schedule("beta", "attention loss"),
        Parameter(
            "attention_layers",
            (1, 2, 3),
            "which feature maps the expert's attention guides",
            "L",
            kind="layers",
            only_with={"beta": ABOVE_ZERO},
            all_layers=True,
            least_positions=2,
            note="where their sizes differ, the larger map is averaged down after it is folded over the channels",
            source=PAPER,
        ),
        Parameter(
            "attention_loss",
            "square",
            "how attention maps are compared",
            kind="choice",
            choices=("square", "cosine"),
            only_with={"beta": ABOVE_ZERO},
            note="`square`: the mean square of their difference; `cosine`: the cosine distance, in the same size, in "
            "which maps of few positions count no more than others",
            source=PAPER,
        ),
        *(
            Parameter(
                f"{which}_weight",
                1.0,
                f"weight of the {which} of several compared maps",
                f"{which}=",
                range=ABOVE_ZERO,
                only_with={"beta": ABOVE_ZERO},
                note="those between the first and the last have 1",
                source=PAPER,
            )
            for which in ("first", "last")
        ),
        Parameter(
            "expert_kd",
            0.0,
            "weight of the expert's predictions, which the paper does without",
            "e=",
            range=Range(0),
            term="loss_expert",
            source=PAPER,
        ),
        Parameter(
            "expert_temperature",
            4.0,
            "temperature that softens the expert's predictions and the student's",
            "eT=",
            range=ABOVE_ZERO,
            only_with={"expert_kd": ABOVE_ZERO},
            source=OURS,
        ),
        standardised({"expert_kd": ABOVE_ZERO}, "expert_standardised", "the expert's and the student's"),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("ctkd-paper", "CTKD with its default settings, whatever the space has", papers=True, usual=True),
    )

    def weighs(self, weight: str) -> bool:
        """Returns whether a term has any weight."""
        return self.values.get(weight, 0.0) > 0

    @property
    def needs(self) -> Needs:
        """Returns the teacher outputs of the terms that have a weight."""
        layers = self.values["attention_layers"] if self.weighs("beta") else ()
        attention = tuple(TeacherOutput("attention", layer) for layer in layers)
        followed = self.step_follows
        logits = self.weighs("expert_kd") or followed in (EXPERT, TO_EXPERT)
        return Needs(
            scratch=followed in (SCRATCH, TO_EXPERT),
            expert=attention + ((LOGITS,) if logits else ()),
            average=followed == AVERAGE,
        )

    @property
    def step_follows(self) -> str:
        """Returns whose logits the step loss follows; nobody's, an empty text, if it has no weight."""
        return str(self.values.get("step_teacher", SCRATCH)) if self.weighs("alpha") else ""

    @property
    def paper_attention(self) -> bool:
        """Returns whether the attention loss is the paper's: constant, the mean square, all layers alike."""
        papers = {"beta_schedule": "constant", "attention_loss": "square", **dict.fromkeys(_WEIGHTS, 1.0)}
        return all(self.values.get(name, value) == value for name, value in papers.items())

    @property
    def softens_logits(self) -> bool:
        """Returns whether no logits are compared by their squared distance, or standardised: then all of them count."""
        whole_step = self.step_follows and (self.values["step_loss"] != "kl" or self.values["standardised"])
        return not whole_step and not (self.weighs("expert_kd") and self.values["expert_standardised"])

    def setting_fault(self, setting: Setting) -> str | None:
        """Refuses standardised logits of two classes."""
        return standardised_fault(self, setting, "standardised", "expert_standardised")

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters of attention at maps of one position or alike, and of schedules over one epoch."""
        layers = self.values["attention_layers"] if self.weighs("beta") else ()
        sides = setting.compared_sides()
        found = attention_faults(layers, sides)
        if len(layers) == 1:
            found |= dict.fromkeys(_WEIGHTS, "one layer is compared, whose weight is beta")
        if len({sides.get(layer) for layer in layers}) == 1:
            found["attention_loss"] = "the compared maps have one size, for which both losses are the same"
        found = {name: reason for name, reason in found.items() if name in self.values}
        if setting.epochs == 1 and self.step_follows == TO_EXPERT:
            found["step_teacher"] = f"{TO_EXPERT} has no effect in one epoch, which begins with the scratch teacher"
        if setting.epochs == 1:
            scheduled = (f"{weight}_{what}" for weight in ("alpha", "beta") for what in ("schedule", "share"))
            found |= {name: _ONE_EPOCH for name in scheduled if name in self.values}
        return found

    def canonical(self) -> MethodConfig:
        """Returns the config of the method without an expert or scratch teacher if they have no weight here."""
        of_effect = {item.name: self.values[item.name] for item in self.effective_parameters()}
        alone = self.step_follows in (SCRATCH, AVERAGE)
        on = {weight for weight in ("alpha", "beta", "expert_kd") if self.weighs(weight)}
        name = {
            frozenset(): "none",
            frozenset({"alpha"}): "scratch-only" if alone else "ctkd",
            frozenset({"beta"}): "at" if self.paper_attention else "expert-only",
            frozenset({"expert_kd"}): "expert-only",
            frozenset({"beta", "expert_kd"}): "expert-only",
        }.get(frozenset(on), "ctkd")
        # The name implies the values that the method has by default or does without.
        known = {item.name: item.default for item in methods()[name].parameters}
        implied = {
            key for key, value in of_effect.items() if key not in known or known[key] == value in (0.0, "constant")
        }
        return MethodConfig(name, {key: value for key, value in of_effect.items() if key not in implied})

    def describe(self) -> list[str]:
        """Returns a description of the method, teacher by teacher."""
        sentences = []
        if self.weighs("alpha"):
            kl = self.values["step_loss"] == "kl"
            how = f"KL divergence at temperature {self.values['temperature']:.3g}" if kl else "squared distance"
            weight = f"weight {self.values['alpha']:.3g}{self._over_epochs('alpha')}"
            sentences.append(f"At every step it follows {_WHOSE[self.step_follows]} ({how}, {weight}).")
        if not self.needs.any_scratch:
            sentences.append("It has no scratch teacher.")
        if self.weighs("beta"):
            layers = [str(layer) for layer in self.values["attention_layers"]]
            where = layers[0] if len(layers) == 1 else f"s {', '.join(layers[:-1])} and {layers[-1]}"
            weight = f"weight {self.values['beta']:.3g}{self._over_epochs('beta')}"
            if self.values.get("attention_loss", "square") == "cosine":
                weight += ", by cosine"
            if len(layers) > 1 and any(self.values.get(name, 1.0) != 1 for name in _WEIGHTS):
                first, last = (self.values[name] for name in _WEIGHTS)
                weight += f", the first layer's times {first:.3g} and the last one's times {last:.3g}"
            sentences.append(f"The expert's attention guides it at layer{' ' * (len(layers) == 1)}{where} ({weight}).")
        else:
            sentences.append("It does not use the expert's attention.")
        if self.weighs("expert_kd"):
            weight, softened = (self.values[name] for name in ("expert_kd", "expert_temperature"))
            sentences.append(
                f"It learns from the expert's predictions too (temperature {softened:.3g}, weight {weight:.3g})."
            )
        return sentences

    def _over_epochs(self, weight: str) -> str:
        schedule = self.values.get(f"{weight}_schedule", "constant")
        if schedule == "first":
            return f" for the first {100 * self.values[f'{weight}_share']:.3g} % of the epochs"
        return ", falling to zero" if schedule == "linear" else ""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets each weight's current share by its schedule."""
        for weight in ("alpha", "beta"):
            schedule = self.values.get(f"{weight}_schedule", "constant")
            first = max(1, round(self.values.get(f"{weight}_share", 1.0) * epochs))
            left = {"constant": 1.0, "linear": 1 - epoch / epochs, "first": float(epoch < first)}[schedule]
            self.set_number(f"{weight}_now", left)
        self.set_number("expert_now", epoch / (epochs - 1) if epochs > 1 else 0.0)

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy, step loss, attention loss and divergence from the expert, each with its weight."""
        from ctkd_search.distill import losses

        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.weighs("alpha"):
            terms["loss_step"] = self.alpha_now * self.alpha * self.followed(output.logits, lesson)
        if self.weighs("beta"):
            terms["loss_attention"] = self.beta_now * self.beta * self.attention(output, lesson)
        if self.weighs("expert_kd"):
            divergence = self.divergence(
                output.logits, lesson.expert_outputs[LOGITS], self.expert_temperature, "expert_standardised"
            )
            terms["loss_expert"] = self.expert_kd * divergence
        return terms

    def followed(self, student: Tensor, lesson: Lesson) -> Tensor:
        """Computes the step loss from the logits that it follows, without its weight."""
        whose = self.step_follows
        if whose == AVERAGE:
            return self.step(student, lesson.scratch_average)
        if whose == EXPERT:
            return self.step(student, lesson.expert_outputs[LOGITS])
        loss = self.step(student, lesson.scratch)
        if whose == SCRATCH:
            return loss
        return (1 - self.expert_now) * loss + self.expert_now * self.step(student, lesson.expert_outputs[LOGITS])

    def attention(self, output: StudentOutput, lesson: Lesson) -> Tensor:
        """Computes the attention loss, without its weight."""
        from ctkd_search.distill import losses

        layers = self.values["attention_layers"]
        pairs = [(output.maps[layer - 1], lesson.expert_outputs[TeacherOutput("attention", layer)]) for layer in layers]
        if self.values.get("attention_loss") == "cosine":
            distances = [losses.attention_cosine(*pair) for pair in pairs]
            size = sum(2 / positions for _, positions in distances) / len(distances)
            compared = [size * distance for distance, _ in distances]
        else:
            compared = [losses.attention(*pair) for pair in pairs]
        if len(layers) > 1 and "first_weight" in self.values:
            weights = {min(layers): self.first_weight, max(layers): self.last_weight}
            compared = [weights.get(layer, 1.0) * loss for layer, loss in zip(layers, compared, strict=True)]
        return sum(compared[1:], compared[0])

    def step(self, student: Tensor, scratch: Tensor) -> Tensor:
        """Computes the step loss."""
        from ctkd_search.distill import losses

        if self.values["step_loss"] == "kl":
            return self.divergence(student, scratch, self.temperature, "standardised")
        return losses.step_mse(student, scratch)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: Tensor | float, standardised: str) -> Tensor:
        """Computes the divergence of softened predictions, of standardised logits if the parameter of that name is."""
        from ctkd_search.distill import logit_losses, losses

        if self.values[standardised]:
            student, teacher = logit_losses.standardised(student), logit_losses.standardised(teacher)
        return losses.softened_divergence(student, teacher, temperature)


METHOD = CTKD
