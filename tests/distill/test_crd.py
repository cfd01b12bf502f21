"""Contrastive distillation: losses, gradients and memories against NumPy over several batches, and the draws."""

import copy
import dataclasses
import io

import numpy as np
import pytest
import torch
from support.classroom import GEOMETRY, Classroom
from support.logit_methods import ends
from support.methods import with_values
from support.oracles import draw, numpy_gradient
from support.tiny import TINY, assert_same_bits, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.contrast import Contrast
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import EMBEDDING
from ctkd_search.distill.training_network import Context, CountedRandom
from ctkd_search.geometry import Geometry
from ctkd_search.models import describe

pytestmark = pytest.mark.usefixtures("single_thread")

LABELS = np.random.default_rng(5).integers(4, size=30)
PAIR = describe("wrn-10-2"), describe("resnet8")
WIDTHS = 64, 128  # of the student's embedding and of the expert's


def contrast_of(negatives, labels=LABELS, seed=3):
    context = Context(*PAIR, Geometry(4, 1, 8), seed, lambda: None, labels)
    return Contrast(context, 5, negatives).double()


def batch(number, size=6):
    indices = np.random.default_rng(number).permutation(len(LABELS))[:size]
    return draw(size, WIDTHS[0], seed=number) / 3, draw(size, WIDTHS[1], seed=100 + number) / 3, indices


def lesson_of(indices, labels=LABELS):
    return Lesson(torch.zeros(len(indices)), torch.tensor(labels[indices]), indices=torch.tensor(indices))


class NumpyContrast:
    """The formula of the paper and the bookkeeping of its code, one image and one negative after another."""

    def __init__(self, module, temperature, momentum):
        heads = (module.own_head, module.expert_head)
        self.heads = [(head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()) for head in heads]
        self.memories = [memory.numpy().copy() for memory in module.memories]
        self.negatives, self.temperature, self.momentum = module.negatives, temperature, momentum
        self.constants = None

    def vectors(self, which, embedding):
        weight, bias = self.heads[which]
        found = embedding @ weight.T + bias
        return found / np.linalg.norm(found, axis=1)[:, None]

    def loss(self, student, expert, indices, chosen, counts):
        """The loss of a batch; `chosen` are the negatives of each image, and `counts` how often each counts."""
        both = self.vectors(0, student), self.vectors(1, expert)
        found, constants = 0.0, []
        images, size = len(self.memories[0]), len(indices)
        for anchor in (0, 1):
            memory = self.memories[1 - anchor]
            positive = [np.exp(both[anchor][i] @ memory[indices[i]] / self.temperature) for i in range(size)]
            negative = [np.exp(memory[chosen[i]] @ both[anchor][i] / self.temperature) for i in range(size)]
            total = sum(positive) + sum(np.dot(negative[i], counts[i]) for i in range(size))
            constants.append(total / (size * (self.negatives + 1)) * images)
            constant = (self.constants or constants)[anchor]
            noise = self.negatives / images
            for i in range(size):
                p = positive[i] / constant
                found -= np.log(p / (p + noise + 1e-7)) / size
                for value, count in zip(negative[i], counts[i], strict=True):
                    found -= count * np.log(noise / (value / constant + noise + 1e-7)) / size
        self.last = constants
        return found

    def remember(self, student, expert, indices):
        self.constants = self.constants or self.last
        for which, embedding in enumerate((student, expert)):
            for vector, index in zip(self.vectors(which, embedding), indices, strict=True):
                moved = self.momentum * self.memories[which][index] + (1 - self.momentum) * vector
                self.memories[which][index] = moved / np.linalg.norm(moved)


def negatives_of(module, indices):
    """The images that the next batch is contrasted with, and how often each counts."""
    if module.negatives >= len(LABELS):
        others = [np.flatnonzero(LABELS[index] != LABELS) for index in indices]
        return others, [np.full(len(each), module.negatives / len(each)) for each in others]
    chosen, _ = copy.deepcopy(module)._chosen(torch.tensor(LABELS[indices]))
    return chosen.numpy(), np.ones(chosen.shape)


@pytest.mark.parametrize("negatives", [7, 29, 30, 1000])
@pytest.mark.parametrize(("temperature", "momentum"), [(0.07, 0.5), (0.5, 0.0), (1.0, 0.9)])
def test_losses_gradients_and_memories_are_those_of_the_formula(negatives, temperature, momentum):
    module = contrast_of(negatives)
    oracle = NumpyContrast(module, temperature, momentum)
    for number in range(3):
        student, expert, indices = batch(number)
        chosen, counts = negatives_of(module, indices)
        own = torch.tensor(student, requires_grad=True)
        module.zero_grad()
        found = module(own, torch.tensor(expert), lesson_of(indices), temperature, momentum)
        found.backward()
        assert found.item() == pytest.approx(oracle.loss(student, expert, indices, chosen, counts), rel=1e-6)
        if number:  # at first, the constants would follow the embedding that is moved
            expected = gradients(oracle, student, expert, indices, chosen, counts)
            assert own.grad.numpy()[np.ix_(*PLACES)] == pytest.approx(expected[0], rel=1e-5, abs=1e-6)
            assert module.expert_head.bias.grad.numpy() == pytest.approx(expected[1], rel=1e-5, abs=1e-6)
        oracle.loss(student, expert, indices, chosen, counts)
        oracle.remember(student, expert, indices)
        for memory, expected in zip(module.memories, oracle.memories, strict=True):
            assert memory.numpy() == pytest.approx(expected, abs=1e-9)
    assert module.scales.exp().numpy() == pytest.approx(oracle.constants, rel=1e-6)


PLACES = [0, 3], [0, 9, 40]


def gradients(oracle, student, *fixed):
    """The gradients by differences: of some numbers of the student's embedding, and of the expert's head."""
    places, bias = np.ix_(*PLACES), oracle.heads[1][1]
    before = bias.copy()

    def moved(part):
        changed = student.copy()
        changed[places] = part
        return oracle.loss(changed, *fixed)

    def biased(value):
        bias[:] = value
        return oracle.loss(student, *fixed)

    found = numpy_gradient(moved, student[places]), numpy_gradient(biased, before)
    bias[:] = before
    return found


def test_negatives_are_drawn_evenly_from_the_other_classes():
    module = contrast_of(25)
    labels = torch.arange(4).repeat(1000)
    chosen, weights = module._chosen(labels)
    assert weights is None
    for label in range(4):
        found = np.bincount(chosen[labels == label].flatten(), minlength=30)
        others = np.flatnonzero(label != LABELS)
        assert set(np.flatnonzero(found)) == set(others)
        expected = 25 * 1000 / len(others)
        # The statistic of chi-squared, whose mean is the degrees of freedom.
        assert ((found[others] - expected) ** 2 / expected).sum() < 3 * len(others)
    again, _ = module._chosen(labels)
    assert (again == chosen).float().mean() < 0.1


def splitmix(seed, place):
    mask = (1 << 64) - 1
    mixed = (seed + place * 0x9E3779B97F4A7C15) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & mask
    return mixed ^ (mixed >> 31)


def test_random_numbers_are_those_of_splitmix_and_go_on_after_a_checkpoint():
    random, limits = CountedRandom(2**62 + 12345), torch.tensor([[7], [1000], [2**31]])
    draws = [random.below(limits, 4) for _ in range(3)]
    for count, drawn in enumerate(draws):
        for place, (row, column) in enumerate(np.ndindex(3, 4)):
            bits = splitmix(2**62 + 12345, place + (count << 32)) >> 33
            assert drawn[row, column] == bits * int(limits[row]) >> 31
    file = io.BytesIO()
    torch.save(random.state_dict(), file)
    file.seek(0)
    other = CountedRandom(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.below(limits, 4), random.below(limits, 4))


def test_an_image_that_is_twice_in_a_batch_is_remembered_by_the_mean_of_both():
    module = contrast_of(7)
    before = module.memories.clone()
    student, expert, _ = batch(0, 3)
    indices = np.array([4, 9, 4])
    vectors = NumpyContrast(module, 1.0, 0.5).vectors(0, student)
    module(torch.tensor(student), torch.tensor(expert), lesson_of(indices), 1.0, 0.5)
    moved = before[0, 4].numpy() / 2 + (vectors[0] + vectors[2]) / 4
    assert module.memories[0, 4].numpy() == pytest.approx(moved / np.linalg.norm(moved))
    rest = [row for row in range(30) if row not in indices]
    assert torch.equal(module.memories[:, rest], before[:, rest])


@pytest.mark.parametrize("temperature", [0.001, 0.01, 100.0])
def test_losses_are_finite_at_any_temperature(temperature):
    module = contrast_of(7).float()
    student, expert, indices = batch(0)
    own = torch.tensor(student).float().requires_grad_()
    module(own, torch.tensor(expert).float(), lesson_of(indices), temperature, 0.5).backward()
    assert torch.isfinite(own.grad).all()
    assert torch.isfinite(module.scales).all()


@pytest.mark.parametrize("negatives", [5, 16384])
def test_a_checkpoint_holds_the_memory_and_goes_on_bit_for_bit(negatives, splits, tmp_path):
    config = with_values(MethodConfig("crd"), negatives=negatives)
    cache = TeacherCache(tmp_path, "a test")

    def trainer():
        return prepared_trainer(dataclasses.replace(TINY, method=config), splits, cache)

    whole, first = trainer(), trainer()
    expected = [whole.run_epoch()["loss"] for _ in range(2)]
    first.run_epoch()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state["around"]["contrast.memories"].shape == (2, len(splits.train), 128)
    after = trainer()
    after.load_state_dict(state)
    assert after.run_epoch()["loss"] == expected[1]
    assert_same_bits(after.step.network.state_dict(), whole.step.network.state_dict())


def test_the_memory_is_of_the_images_that_the_stream_has_shown(splits, tmp_path):
    config = dataclasses.replace(TINY, method=MethodConfig("crd"))
    trainer = prepared_trainer(config, splits, TeacherCache(tmp_path, "a test"))
    plan = trainer.teachers.stream.plan(0)
    found = list(trainer.teachers.lessons(0))
    assert torch.equal(torch.cat([lesson.indices for lesson in found]), plan.order)
    for lesson in found:
        assert np.array_equal(splits.train.labels[lesson.indices], lesson.labels)


def test_terms_have_the_weight_and_defaults_are_the_code_s():
    values = make_method(MethodConfig("crd")).values
    assert values == {"weight": 0.8, "temperature": 0.07, "momentum": 0.5, "negatives": 16384, "width": 128}
    room, same = (Classroom(MethodConfig("crd")) for _ in range(2))
    lesson = room.lesson()
    found = room.method.terms(StudentOutput(*room.network(lesson.images)), lesson)["loss_contrast"]
    _, _, (embedding, contrast) = same.network(lesson.images)
    expected = contrast(embedding, lesson.expert_outputs[EMBEDDING], lesson, 0.07, 0.5)
    assert found.item() == pytest.approx(0.8 * expected.item(), rel=1e-6)
    off = make_method(MethodConfig("crd", {"weight": 0.0}))
    assert not off.needs.any_expert
    assert isinstance(off.training_network(room.student, None), type(room.student))


def test_what_is_not_known_is_named():
    with pytest.raises(TypeError, match="a contrast needs the classes of the training images"):
        Contrast(Context(*PAIR, GEOMETRY, 0, lambda: None), 5, 7)
    student, expert, indices = batch(0)
    lesson = Lesson(torch.zeros(6), torch.tensor(LABELS[indices]))
    with pytest.raises(TypeError, match="the lesson lacks the indices of its images"):
        contrast_of(7)(torch.tensor(student), torch.tensor(expert), lesson, 0.07, 0.5)


def test_recorded_embeddings_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("crd", {"negatives": 9}, splits, tmp_path))
