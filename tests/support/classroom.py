"""Methods at work on one lesson, without training: what each makes of it, by its declarations alone."""

import functools

import numpy as np
import pytest
import torch

from ctkd_search.config import MethodConfig
from ctkd_search.distill.engine import place
from ctkd_search.distill.expert import output_of
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Parameter, make_method, methods
from ctkd_search.distill.step import StudentStep
from ctkd_search.distill.training_network import Context
from ctkd_search.fields import Range
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.recipe import Recipe
from support.tiny import CPU

GEOMETRY = Geometry(10, 1, 8)
# Every method can teach one of them. Those that can do with widths that disagree are held to it.
PAIRS = (("wrn-10-2", "resnet8"), ("wrn-10-1", "resnet8"), ("wrn-16-1", "wrn-10-1"), ("resnet14", "resnet8"))
EPOCHS = 4
EXPERT_SEED = 1
METHODS = pytest.mark.parametrize("name", methods())
PARAMETERS = [(name, parameter.name) for name, method in methods().items() for parameter in method.parameters]
WEIGHTS = [(name, item.name) for name, method in methods().items() for item in method.parameters if item.term]
OTHER_LAYERS = ((1,), (2, 3), (3, 1))


def parameter_of(name, key) -> Parameter:
    return next(parameter for parameter in methods()[name].parameters if parameter.name == key)


def defaults(name):
    return MethodConfig(name, {parameter.name: parameter.default for parameter in methods()[name].parameters})


def with_effect(name, key):
    """The defaults, changed so far that a parameter has an effect."""
    values = dict(defaults(name).values)
    for other, allowed in parameter_of(name, key).only_with.items():
        if values[other] not in allowed:
            values[other] = inside(allowed)
    # A number of 0 switches something off, and that is a structure of its own.
    if parameter_of(name, key).kind == "float" and not values[key]:
        values[key] = 0.5
    return MethodConfig(name, values)


def inside(allowed):
    """A value among those allowed."""
    if not isinstance(allowed, Range):
        return allowed[0]
    return (allowed.low + (allowed.low + 2 if allowed.high is None else allowed.high)) / 2


def outside(allowed, parameter):
    """A value of a parameter that is not among those allowed."""
    if isinstance(allowed, Range):
        return allowed.low
    return next(choice for choice in parameter.choices if choice not in allowed)


def other_values(parameter, value):
    if parameter.kind == "choice":
        return [choice for choice in parameter.choices if choice != value]
    if parameter.kind == "layers":
        return OTHER_LAYERS
    if parameter.range is not None and parameter.range.high == 1:
        # Shares of the epochs among them: far enough from each other for a few epochs to tell.
        return [share for share in (0.3, 0.8) if share != value]
    other = [number for number in (value * 2, value / 2, value + 1, value + 0.5) if number != value]
    return [number for number in other if parameter.fault(number) is None][:2]


def expert_from(seed, teacher, geometry):
    return build(teacher, geometry, seed=seed).eval().requires_grad_(False)


@functools.lru_cache(maxsize=256)
def said_by_expert(seed, teacher, geometry, number):
    """The logits, the maps and the embedding of a frozen expert for a lesson's images."""
    return _expert(seed, teacher, geometry).with_embedding(images_of(number, geometry)[0])


@functools.lru_cache(maxsize=64)
def _expert(seed, teacher, geometry):
    return expert_from(seed, teacher, geometry)


def images_of(number, geometry):
    """A lesson's images, and the generator that has drawn them."""
    generator = torch.Generator().manual_seed(number)
    _, channels, size = geometry
    return torch.randn(12, channels, size, size, generator=generator), generator


class Classroom:
    """A method with its training network, and a lesson that holds what it needs and nothing else."""

    def __init__(self, config, seed=0, geometry=GEOMETRY, pairs=PAIRS, epochs=EPOCHS):
        self.method = make_method(config)
        self.geometry, self.epochs = geometry, epochs
        pairs = [(describe(teacher), describe(student)) for teacher, student in pairs]
        teacher, student = next(pair for pair in pairs if self.method.fault(*pair) is None)
        self.teacher, self.architecture = teacher.name, student.name
        self.student = place(build(student.name, geometry, seed=seed), CPU)
        labels = np.arange(12) % geometry[0]
        context = Context(teacher, student, geometry, seed, lambda: self.expert, labels)
        self.network = place(self.method.training_network(self.student, context), CPU)
        self.recipe = Recipe(batch_size=12, lr=0.01, precision="float32")

    @functools.cached_property
    def expert(self):
        """The expert of this room alone, which no other test has had in its hands."""
        return expert_from(EXPERT_SEED, self.teacher, self.geometry)

    def expert_seed(self, epoch):
        """The seed of the expert that teaches in an epoch: another one for each anchor."""
        anchors = self.method.needs.anchors
        return round(1000 * anchors[epoch * len(anchors) // self.epochs]) if anchors else EXPERT_SEED

    def lesson(self, number=0, epoch=0):
        classes = self.geometry[0]
        images, generator = images_of(number, self.geometry)
        logits, maps, embedding = said_by_expert(self.expert_seed(epoch), self.teacher, self.geometry, number)
        # Copies, because a test may change what it is given.
        logits, maps, embedding = logits.clone(), [features.clone() for features in maps], embedding.clone()
        needs = self.method.needs
        scratch, average = (torch.randn(12, classes, generator=generator) for _ in range(2))
        said = {output: output_of(output, logits, maps, embedding) for output in needs.expert}
        return Lesson(
            images,
            torch.arange(12) % classes,
            scratch if needs.scratch else None,
            said,
            average_logits=average if needs.average else None,
            indices=torch.arange(12),
        )

    def terms(self, number=0, epoch=0):
        lesson = self.lesson(number, epoch)
        return self.method.terms(StudentOutput(*self.network(lesson.images)), lesson)

    def step(self):
        return StudentStep(self.network, self.method, self.recipe, CPU)


def trajectory(config, steps=3, **where):
    """The terms at the beginning of each epoch, as numbers; nothing is trained, so that only the method acts."""
    return _trajectory(config.name, tuple(config.values.items()), steps, tuple(where.items()))


@functools.cache
def _trajectory(name, values, steps, where):
    room = Classroom(MethodConfig(name, dict(values)), **dict(where))
    found = []
    for epoch in range(room.epochs):
        room.method.begin_epoch(epoch, room.epochs)
        with torch.no_grad():
            found += [{key: term.item() for key, term in room.terms(step, epoch).items()} for step in range(steps)]
    return found
