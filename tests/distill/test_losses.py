"""The losses: closed forms by hand, NumPy oracles on random inputs, and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.oracles import draw, numpy_attention, numpy_attention_map, numpy_kl

from ctkd_search.distill import losses

SHAPES = pytest.mark.parametrize("shape", [(1, 2), (5, 10), (3, 100)])
MAPS = pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 3, 4, 4), (4, 16, 8, 8), (3, 5, 2, 7)])
TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])


def close(found, expected, tolerance=1e-6):
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance * 1e-2)


def test_squared_distance_is_summed_over_classes_and_averaged_over_the_batch():
    student, scratch = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert losses.step_mse(student, scratch).item() == (5 + 25) / 2


def test_divergence_of_three_to_one_from_even_odds():
    student, scratch = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert losses.softened_divergence(student, scratch, 2.0).item() == pytest.approx(expected, rel=1e-5)
    backwards = 4 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert losses.softened_divergence(scratch, student, 2.0).item() == pytest.approx(backwards, rel=1e-5)


def test_divergence_at_high_temperature_is_half_the_distance_of_the_centred_logits_a_class():
    student, scratch = draw(4, 6), draw(4, 6, seed=1)
    gap = (student - student.mean(1, keepdims=True)) - (scratch - scratch.mean(1, keepdims=True))
    expected = np.mean((gap**2).sum(axis=1)) / (2 * 6)
    close(losses.softened_divergence(torch.tensor(student), torch.tensor(scratch), 1e4), expected, tolerance=1e-3)


def test_attention_map_of_two_channels_by_hand():
    features = torch.tensor([[[[3.0, 1.0]], [[-1.0, 2.0]]]])
    # Mean squares 5 and 2.5, of length 2.5 times the root of 5.
    close(losses.attention_map(features), np.array([[2 / math.sqrt(5), 1 / math.sqrt(5)]]))


def test_attention_of_maps_that_look_at_different_places_is_their_mean_square():
    student = torch.tensor([[[[7.0, 0.0]]]])
    assert losses.attention(student, torch.tensor([[0.0, 1.0]])).item() == 1.0


@SHAPES
def test_squared_distance_agrees_with_numpy(shape):
    student, scratch = draw(*shape), draw(*shape, seed=1)
    expected = np.mean([np.sum((s - t) ** 2) for s, t in zip(student, scratch, strict=True)])
    close(losses.step_mse(torch.tensor(student), torch.tensor(scratch)), expected)


@SHAPES
@TEMPERATURES
def test_divergence_agrees_with_numpy(shape, temperature):
    student, scratch = draw(*shape), draw(*shape, seed=1)
    found = losses.softened_divergence(torch.tensor(student), torch.tensor(scratch), temperature)
    close(found, numpy_kl(student, scratch, temperature))


@MAPS
def test_attention_map_agrees_with_numpy(shape):
    features = draw(*shape)
    found = losses.attention_map(torch.tensor(features))
    assert found.shape == (shape[0], shape[2] * shape[3])
    close(found, numpy_attention_map(features))


@MAPS
def test_attention_agrees_with_numpy_whatever_the_expert_s_width(shape):
    student, expert = draw(*shape), draw(shape[0], 2 * shape[1], *shape[2:], seed=1)
    found = losses.attention(torch.tensor(student), losses.attention_map(torch.tensor(expert)))
    close(found, numpy_attention(student, expert), tolerance=1e-5)


@TEMPERATURES
def test_losses_are_zero_for_a_student_that_follows_and_positive_otherwise(temperature):
    logits, features = torch.tensor(draw(4, 10)), torch.tensor(draw(4, 3, 5, 5))
    assert losses.step_mse(logits, logits).item() == 0
    assert losses.softened_divergence(logits, logits, temperature).item() == pytest.approx(0, abs=1e-12)
    assert losses.attention(features, losses.attention_map(features)).item() == 0
    assert losses.step_mse(logits, logits + 1).item() > 0
    assert losses.softened_divergence(logits, logits * 2, temperature).item() > 0
    assert losses.attention(features, losses.attention_map(features.flip(3))).item() > 0


def test_divergence_does_not_see_a_shift_of_all_logits_and_distance_does():
    logits = torch.tensor(draw(4, 10))
    assert losses.softened_divergence(logits + 5, logits, 2.0).item() == pytest.approx(0, abs=1e-12)
    assert losses.step_mse(logits + 5, logits).item() == pytest.approx(250)


def test_attention_map_sees_neither_sign_nor_scale_nor_the_order_of_channels():
    features = torch.tensor(draw(4, 3, 5, 5))
    expected = losses.attention_map(features)
    for same in (-features, 7 * features, features.flip(1)):
        torch.testing.assert_close(losses.attention_map(same), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_attention_map_is_float32_of_length_one(dtype):
    found = losses.attention_map(torch.tensor(draw(4, 3, 5, 5)).to(dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))


def test_attention_map_of_nothing_is_zero_and_has_a_finite_gradient():
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    assert not losses.attention_map(features).any()
    losses.attention(features, torch.full((2, 16), 0.25)).backward()
    assert torch.isfinite(features.grad).all()


def test_extreme_logits_give_finite_losses():
    far = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.isfinite(losses.softened_divergence(far, -far, 1.0))
    assert torch.isfinite(losses.step_mse(far, -far))


@pytest.mark.parametrize(
    "loss", [losses.step_mse, *(lambda s, t, T=T: losses.softened_divergence(s, t, T) for T in (0.5, 1.0, 4.0))]
)
def test_gradient_of_the_step_losses_is_that_of_finite_differences(loss):
    student = torch.tensor(draw(4, 6), requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, torch.tensor(draw(4, 6, seed=1))), student)


def test_square_of_the_temperature_keeps_the_size_of_the_gradient():
    def size(temperature):
        student = torch.tensor(draw(4, 6) * 0.1, requires_grad=True)
        losses.softened_divergence(student, torch.tensor(draw(4, 6, seed=1) * 0.1), temperature).backward()
        return student.grad.norm().item()

    assert size(20.0) == pytest.approx(size(4.0), rel=0.1)


def test_gradient_of_attention_is_that_of_numpy_s_finite_differences():
    student, expert = draw(2, 3, 3, 2), draw(2, 4, 3, 2, seed=1)
    features = torch.tensor(student, dtype=torch.float32, requires_grad=True)
    losses.attention(features, losses.attention_map(torch.tensor(expert))).backward()
    expected, epsilon = np.zeros_like(student), 1e-6
    for index in np.ndindex(student.shape):
        nudge = np.zeros_like(student)
        nudge[index] = epsilon
        up, down = numpy_attention(student + nudge, expert), numpy_attention(student - nudge, expert)
        expected[index] = (up - down) / (2 * epsilon)
    np.testing.assert_allclose(features.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_right_predictions_are_counted():
    logits = torch.tensor([[1.0, 2.0, 0.0], [5.0, 1.0, 1.0], [0.0, 0.0, 9.0]])
    assert losses.correct(logits, torch.tensor([1, 1, 2])).item() == 2


def pooled(maps, side):
    """NumPy's own averaging of (images, n, n) to (images, side, side), where `side` divides n."""
    step = maps.shape[1] // side
    return maps.reshape(len(maps), side, step, side, step).mean(axis=(2, 4))


def numpy_attention_of_unequal(student, expert):
    """The energies, averaged to the smaller size, normalised, and compared."""
    energies = [(features**2).mean(axis=1) for features in (student, expert)]
    side = min(energy.shape[1] for energy in energies)
    flat = [pooled(energy, side).reshape(len(energy), -1) for energy in energies]
    first, second = (energy / np.sqrt((energy**2).sum(axis=1, keepdims=True)) for energy in flat)
    return np.mean((first - second) ** 2)


@pytest.mark.parametrize(("ours", "theirs"), [(8, 4), (4, 8), (4, 1), (1, 6), (9, 3)])
def test_the_larger_map_is_averaged_before_it_is_normalised_whichever_it_is(ours, theirs):
    student, expert = draw(3, 5, ours, ours), draw(3, 2, theirs, theirs, seed=1)
    # The expert's map is the normalised one that was recorded.
    found = losses.attention(torch.tensor(student), losses.attention_map(torch.tensor(expert)))
    close(found, numpy_attention_of_unequal(student, expert), tolerance=1e-5)


def test_averaging_a_normalised_map_and_normalising_it_again_is_averaging_the_energy():
    features = torch.tensor(draw(3, 5, 8, 8))
    seen = losses.attention_map(features).view(3, 8, 8)
    again = torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(seen, 4).flatten(1), dim=1)
    energy = torch.nn.functional.adaptive_avg_pool2d(features.pow(2).mean(dim=1), 4).flatten(1)
    torch.testing.assert_close(again.double(), torch.nn.functional.normalize(energy, dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [(7, 5), (5, 7), (8, 4)])
def test_gradient_reaches_the_whole_of_a_map_of_another_size(ours, theirs):
    features = torch.tensor(draw(2, 3, ours, ours), requires_grad=True)
    losses.attention(features, losses.attention_map(torch.tensor(draw(2, 3, theirs, theirs, seed=1)))).backward()
    assert features.grad.abs().min() > 0


def test_a_student_that_looks_where_the_expert_looks_differs_by_nothing_at_any_size():
    coarse = torch.tensor(draw(2, 1, 4, 4))
    fine = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert losses.attention(fine, losses.attention_map(coarse)).item() == pytest.approx(0, abs=1e-12)
    assert losses.attention(coarse, losses.attention_map(fine)).item() == pytest.approx(0, abs=1e-12)


def test_maps_of_equal_size_are_compared_as_they_are_to_the_last_bit():
    student, seen = torch.tensor(draw(4, 3, 5, 5)), losses.attention_map(torch.tensor(draw(4, 3, 5, 5, seed=1)))
    assert torch.equal(losses.attention(student, seen), (losses.attention_map(student) - seen).pow(2).mean())


def loss_of_averaged_features(student, expert):
    """The loss where features are averaged before they are folded, as the code of arXiv 1910.10699 does it."""
    side = min(student.shape[2], expert.shape[2])
    folded = (
        F.normalize(F.adaptive_avg_pool2d(features, (side, side)).pow(2).mean(dim=1).flatten(1))
        for features in (student, expert)
    )
    ours, theirs = folded
    return (ours - theirs).pow(2).mean().item()


UNEQUAL = [
    ((16, 32), (24, 16)),
    ((16, 16), (24, 32)),
    ((64, 8), (64, 16)),
    ((16, 8), (16, 32)),
    ((240, 16), (32, 32)),
    ((512, 4), (64, 8)),
    ((16, 4), (16, 8)),
]


@pytest.mark.parametrize(("own", "given"), UNEQUAL)
def test_unequal_maps_give_a_smaller_loss_than_averaged_features_by_as_much_as_is_said(own, given):
    generator = torch.Generator().manual_seed(0)
    student, expert = (torch.randn(16, width, side, side, generator=generator) for width, side in (own, given))
    for rectify, least, most in ((False, 0.28, 0.68), (True, 0.03, 0.23)):
        one, other = (features.relu() if rectify else features for features in (student, expert))
        found = losses.attention(one, losses.attention_map(other)).item()
        assert least < 1 - found / loss_of_averaged_features(one, other) < most


def test_equal_maps_give_the_loss_of_averaged_features():
    generator = torch.Generator().manual_seed(0)
    student, expert = torch.randn(2, 4, 16, 8, 8, generator=generator)
    found = losses.attention(student, losses.attention_map(expert)).item()
    assert found == pytest.approx(loss_of_averaged_features(student, expert), rel=1e-6)
