"""Methods as a user would bring them, from outside the package: one that is right, and one for each mistake."""

import random

import torch

from ctkd_search.distill import losses
from ctkd_search.distill.methods import LOGITS, Method, Needs, Parameter, Range, TeacherOutput

WEIGHT = Parameter("weight", 1.0, "weight of the distance", "w=", range=Range(0), term="loss_distance")
NOT_A_METHOD = 7


class Right(Method):
    """The expert's logits by regression."""

    summary = "the expert's logits by regression"
    parameters = (
        WEIGHT,
        Parameter(
            "norm",
            "l2",
            "how the distance is measured",
            kind="choice",
            choices=("l1", "l2"),
            only_with={"weight": Range(0, open_low=True)},
        ),
    )

    @property
    def needs(self):
        return Needs(expert=(LOGITS,) if self.values["weight"] > 0 else ())

    def terms(self, output, lesson):
        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            gap = output.logits - lesson.expert_outputs[LOGITS].detach()
            gap = gap.abs() if self.values["norm"] == "l1" else gap.square()
            terms["loss_distance"] = self.weight * gap.mean()
        return terms


class Alone(Method):
    """The labels alone; the mistakes below are made in it."""

    summary = "the labels alone"

    @property
    def needs(self):
        return Needs()

    def terms(self, output, lesson):
        return {"loss_ce": losses.cross_entropy(output.logits, lesson)}


class NoTerms(Alone):
    def terms(self, output, lesson):
        return {}


class BadName(Alone):
    def terms(self, output, lesson):
        return {"ce": losses.cross_entropy(output.logits, lesson)}


class NotSingle(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": output.logits.mean(dim=1)}


class NotANumber(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": (output.logits.mean() - 1e9).sqrt()}


class Breaks(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": output.logits @ output.logits}


class NotAsked(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": (output.logits - lesson.expert_outputs[LOGITS]).square().mean()}


class Constant(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": losses.cross_entropy(output.logits.detach(), lesson)}


class InPart(Alone):
    def terms(self, output, lesson):
        return {"loss_maps": output.maps[0].square().mean()}


class BadGradient(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": losses.cross_entropy(output.logits, lesson) + (output.logits.mean() * 0).abs().sqrt()}


class IntoTheTeacher(Right):
    parameters = ()

    @property
    def needs(self):
        return Needs(expert=(LOGITS,))

    def terms(self, output, lesson):
        return {"loss_ce": (output.logits - lesson.expert_outputs[LOGITS]).square().mean()}


class AsksTooMuch(Alone):
    @property
    def needs(self):
        return Needs(scratch=True, expert=(TeacherOutput("attention", 2),))


class NotSoftened(Right):
    softens_logits = True


class Looks(Right):
    def terms(self, output, lesson):
        terms = super().terms(output, lesson)
        return terms if self.weight < 10 else {"loss_ce": terms["loss_ce"]}


class ReadsTheStem(Alone):
    """Reads a part of the student that networks of this package have."""

    def training_network(self, student, context):
        assert student.stem is not None
        return student


class MistypesTheStem(Alone):
    """Reads a part that no student has."""

    def training_network(self, student, context):
        assert student.stemm is not None
        return student


class Idle(Alone):
    parameters = (Parameter("depth", 2, "depth of something", kind="int", range=Range(1, 5)),)


class NotSwitchedOff(Right):
    @property
    def needs(self):
        return Needs(expert=(LOGITS,))

    def terms(self, output, lesson):
        gap = output.logits - lesson.expert_outputs[LOGITS].detach()
        gap = gap.abs() if self.values["norm"] == "l1" else gap.square()
        return {"loss_ce": losses.cross_entropy(output.logits, lesson), "loss_distance": self.weight * gap.mean()}


class Draws(Alone):
    """Random numbers of torch are those of the epoch, in an interrupted trial too."""

    def terms(self, output, lesson):
        return {"loss_ce": torch.rand(()) * losses.cross_entropy(output.logits, lesson)}


class DrawsElsewhere(Alone):
    def terms(self, output, lesson):
        return {"loss_ce": random.random() * losses.cross_entropy(output.logits, lesson)}


class Counts(Alone):
    calls = 0

    def terms(self, output, lesson):
        self.calls += 1
        return {"loss_ce": losses.cross_entropy(output.logits, lesson) / self.calls}


class InPlace(Alone):
    def terms(self, output, lesson):
        weights = output.logits.exp()
        loss = weights.mean()
        weights.mul_(2)
        return {"loss_ce": loss}


class KeepsTheGraph(Alone):
    average = 0

    def terms(self, output, lesson):
        self.average = 0.9 * self.average + 0.1 * output.logits.mean()
        return {"loss_ce": losses.cross_entropy(output.logits, lesson), "loss_average": self.average.square()}


class OutOfMemory(Alone):
    def terms(self, output, lesson):
        output.logits.register_hook(self._full)
        return super().terms(output, lesson)

    @staticmethod
    def _full(gradient):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")


class Lacking(Method):
    summary = "nothing"


class NoSummary(Alone):
    summary = ""


class BadDefault(Alone):
    parameters = (Parameter("weight", -1.0, "weight", range=Range(0)),)


class Twice(Right):
    parameters = (WEIGHT, WEIGHT)


class Taken(Alone):
    parameters = (Parameter("needs", 1.0, "weight", range=Range(0)),)


class NoHelp(Alone):
    parameters = (Parameter("weight", 1.0, "", range=Range(0)),)


class OneChoice(Alone):
    parameters = (Parameter("form", "a", "form", kind="choice", choices=("a",)),)


class WithAnother(Alone):
    parameters = (Parameter("weight", 1.0, "weight", only_with={"other": (1,)}),)


class NoLayer(Alone):
    @property
    def needs(self):
        return Needs(expert=(TeacherOutput("attention"),))


class NoKind(Alone):
    @property
    def needs(self):
        return Needs(expert=(TeacherOutput("thoughts", 1),))


class NeedsNothingKnown(Alone):
    @property
    def needs(self):
        return None


class FailingNeeds(Alone):
    @property
    def needs(self):
        return Needs(expert=self.values["absent"])
