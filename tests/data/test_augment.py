"""Augmentations beside crops and flips: functions of the position, and torchvision's operations."""

import dataclasses

import numpy as np
import pytest
import torch
from support.augmented import AUGMENTED, FULL_JITTER
from support.layouts import folder_config, write_folder
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ctkd_search.config import Augment, Erasing, Jitter, RandAugment
from ctkd_search.data import ImageFiles, Images, load_train
from ctkd_search.data.erasing import draw_erasing
from ctkd_search.data.file_stream import stream_of
from ctkd_search.data.jitter import apply_jitter, draw_jitter
from ctkd_search.data.mixing import Mixing, draw_mixing
from ctkd_search.data.policies import BINS, OPERATIONS, policy_levels
from ctkd_search.data.stream import Normalise, Plan, Stream

CPU = torch.device("cpu")
EACH = pytest.mark.parametrize("augment", AUGMENTED.values(), ids=AUGMENTED)
POLICIES = {"randaugment": v2.RandAugment(2, 9), "trivialaugment": v2.TrivialAugmentWide()}


def smooth(count, size=12, channels=3):
    """Images like photographs: bytes that change slowly from place to place, shape (count, size, size, channels)."""
    coarse = torch.rand((count, channels, 4, 4), generator=torch.Generator().manual_seed(count)) * 300 - 20
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return images.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def make_stream(augment, count=40, channels=3, seed=5):
    images = Images(smooth(count, channels=channels).numpy(), np.arange(count))
    return Stream(images, Normalise((125.0,) * channels, (60.0,) * channels), augment, seed, CPU)


def epoch_of(stream, batch_size=16, epoch=1):
    batches = list(stream.batches(stream.plan(epoch), batch_size))
    return torch.cat([images for images, _ in batches])


def parts(plan):
    """All that is drawn for a plan, by name."""
    found = {part.name: getattr(plan, part.name) for part in dataclasses.fields(Plan) if part.name != "mixing"}
    mixing = plan.mixing and plan.mixing._asdict()
    return {**found, **(mixing or dict.fromkeys(Mixing._fields))}


def drawn(count):
    return lambda purpose: torch.Generator().manual_seed(len(purpose) + count)


@EACH
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_of_any_size_cut_the_same_sequence(augment, channels):
    if channels == 1:
        grey = augment.jitter and Jitter(augment.jitter.brightness, augment.jitter.contrast)
        augment = dataclasses.replace(augment, jitter=grey)
    stream = make_stream(augment, channels=channels)
    expected = epoch_of(stream, 40)
    for batch_size in (1, 7, 39):
        assert torch.equal(epoch_of(stream, batch_size), expected)


@EACH
def test_streamed_and_resident_views_are_the_same_bits(augment, tmp_path):
    write_folder(tmp_path, images=12, size=12)
    found = []
    for loading, form in (("streamed", ImageFiles), ("resident", Images)):
        workers = 0 if loading == "streamed" else None
        splits = load_train(folder_config(tmp_path, validation=0.2, loading=loading, workers=workers), [augment])
        assert isinstance(splits.train, form)
        found.append(epoch_of(stream_of(splits.train, Normalise(splits.mean, splits.std), augment, 3, CPU), 7))
    assert torch.equal(*found)


@EACH
def test_a_plan_is_a_function_of_seed_and_epoch_and_leaves_what_was_drawn_before(augment):
    stream = make_stream(augment)
    once, again, plain = (parts(made.plan(1)) for made in (stream, make_stream(augment), make_stream(Augment(2))))
    others = [parts(stream.plan(2)), parts(make_stream(augment, seed=6).plan(1))]
    own = {name for name, part in once.items() if part is not None and plain[name] is None}
    # Sampling alone changes which image is at a position.
    own |= {"order"} if augment.sampling else set()
    assert own
    for name, part in once.items():
        if name in own:
            assert torch.equal(part, again[name])
            # Mixup alone has no rectangles.
            assert not part.any() or not any(torch.equal(part, other[name]) for other in others)
        elif part is not None:
            assert torch.equal(part, plain[name])


def test_each_augmentation_of_several_is_drawn_as_it_is_alone():
    both, alone = (Augment(2, jitter=FULL_JITTER, erasing=Erasing(0.7)), AUGMENTED["erasing"])
    assert torch.equal(make_stream(both).plan(0).erased, make_stream(alone).plan(0).erased)


@EACH
def test_an_augmentation_changes_views_and_not_the_images(augment):
    stream, plain = make_stream(augment), make_stream(Augment(2))
    before = stream.pixels.clone()
    views, unchanged = epoch_of(stream), epoch_of(plain)
    same = [torch.equal(one, other) for one, other in zip(views, unchanged, strict=True)]
    assert sum(same) < 25
    assert torch.equal(stream.pixels, before)
    assert views.dtype == torch.float32
    assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("size", "channels"), [(16, 3), (9, 1)])
def test_an_operation_is_torchvisions_on_each_image_alone(name, policy, size, channels):
    images, theirs = smooth(BINS, size, channels), POLICIES[policy]
    given = Augment(randaugment=RandAugment()) if policy == "randaugment" else Augment(trivialaugment=True)
    steps, signed = theirs._AUGMENTATION_SPACE[name]
    steps = steps(BINS, size, size)
    for direction, sign in enumerate((1, -1) if signed else (1,)):
        # Another magnitude for every image.
        found = OPERATIONS[name](images, policy_levels(given, size)[direction, list(OPERATIONS).index(name)])
        for number, image in enumerate(images.permute(0, 3, 1, 2)):
            magnitude = 0.0 if steps is None else float(steps[number])
            expected = theirs._apply_image_or_video_transform(
                image, name, sign * magnitude, v2.InterpolationMode.NEAREST, {torch.Tensor: None}
            )
            apart = (found[number].permute(2, 0, 1).int() - expected.int()).abs()
            # Of a place half-way between two pixels either may be taken; elsewhere rounding may differ by one level.
            moved = name.startswith("Shear") or name == "Rotate"
            assert (apart > 0).float().mean() <= (0.15 if moved else 0.05)
            assert moved or apart.max() <= 1


def test_every_operation_is_drawn_as_often_and_in_both_directions():
    plan = make_stream(Augment(2, trivialaugment=True), count=4000).plan(0)
    assert plan.operations.shape == (4000, 1)
    assert torch.bincount(plan.operations.flatten(), minlength=len(OPERATIONS)).min() > 200
    rotated = plan.magnitudes[plan.operations == list(OPERATIONS).index("Rotate")]
    assert 0.4 < (rotated < 0).double().mean() < 0.6
    assert len(rotated.abs().unique()) == BINS


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_randaugment_has_as_many_operations_of_its_magnitude(magnitude):
    plan = make_stream(Augment(2, randaugment=RandAugment(3, magnitude))).plan(0)
    assert plan.operations.shape == plan.magnitudes.shape == (40, 3)
    rotated = plan.magnitudes[plan.operations == list(OPERATIONS).index("Rotate")]
    assert len(rotated)
    assert rotated.abs().unique().tolist() == [magnitude]


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_on_each_image_alone(channels):
    images = smooth(30, 16, channels)
    jitter = FULL_JITTER if channels == 3 else Jitter(brightness=0.8, contrast=0.6)
    order, magnitudes = draw_jitter(jitter, 30, drawn(1))
    found = apply_jitter(images, order, magnitudes)
    theirs = [
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    ]
    for number, image in enumerate(images.permute(0, 3, 1, 2)):
        for operation, magnitude in zip(order[number].tolist(), magnitudes[number].tolist(), strict=True):
            if operation >= 0:
                image = theirs[operation](image, magnitude)
        apart = (found[number].permute(2, 0, 1).int() - image.int()).abs()
        assert apart.float().mean() < 0.2
        assert apart.max() <= 5


def test_jitter_draws_from_its_ranges_in_every_order():
    order, magnitudes = draw_jitter(Jitter(brightness=0.2, hue=0.1), 3000, drawn(2))
    assert {tuple(one) for one in order.tolist()} == {
        tuple(-1 if number not in (first, second) else (0 if number == first else 3) for number in range(4))
        for first in range(4)
        for second in range(4)
        if first != second
    }
    for operation, low, high in ((0, 0.8, 1.2), (3, -0.1, 0.1)):
        values = magnitudes[order == operation]
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high


@pytest.mark.parametrize("size", [3, 8, 32])
def test_erased_rectangles_have_the_areas_and_places_that_they_may_have(size):
    rectangles = draw_erasing(Erasing(0.6, (0.1, 0.4)), 5000, size, drawn(3))
    top, left, height, width = rectangles.unbind(1)
    assert rectangles.min() >= 0
    assert (top + height).max() == size
    assert (left + width).max() == size
    assert max(int(height.max()), int(width.max())) < size
    erased = height * width > 0
    assert 0.5 < erased.double().mean() < 0.65
    shares = (height * width)[erased] / size**2
    if size == 32:
        assert 0.08 < shares.min() < 0.13
        assert 0.37 < shares.max() < 0.43


def test_erasing_sets_a_rectangle_to_the_mean_colour_and_leaves_the_rest():
    stream, plain = make_stream(AUGMENTED["erasing"]), make_stream(Augment(2))
    rectangles = stream.plan(1).erased
    for found, view, (top, left, height, width) in zip(
        epoch_of(stream), epoch_of(plain), rectangles.tolist(), strict=True
    ):
        view[:, top : top + height, left : left + width] = 0
        assert torch.equal(found, view)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "either"])
def test_mixed_views_are_those_of_two_positions_and_labels_have_their_shares(name):
    stream, plain = make_stream(AUGMENTED[name]), epoch_of(make_stream(Augment(2)))
    plan = stream.plan(1)
    partners, shares, rectangles = plan.mixing
    kinds = set()
    for position, found in enumerate(epoch_of(stream)):
        partner, share = int(partners[position]), shares[position]
        top, left, height, width = rectangles[position].tolist()
        expected = plain[position].clone()
        if height:
            inner = (slice(None), slice(top, top + height), slice(left, left + width))
            expected[inner] = plain[partner][inner]
            assert share == pytest.approx(1 - height * width / 144)
        elif share < 1:
            expected = share * plain[position] + (1 - share) * plain[partner]
        kinds.add("cut" if height else "whole" if share < 1 else "neither")
        torch.testing.assert_close(found, expected)
        assert (share < 1) == (partner != position)
    mixture = stream.mixture(plan, 3, 17)
    assert torch.equal(mixture.partners, stream.labels[plan.order][partners[3:17]])
    assert torch.equal(mixture.shares, shares[3:17])
    assert stream.mixture(make_stream(Augment()).plan(0), 0, 4) is None
    assert kinds >= {"mixup": {"whole"}, "cutmix": {"cut"}, "either": {"whole", "cut", "neither"}}[name]


@pytest.mark.parametrize(("alpha", "middle"), [(0.2, 0.17), (1.0, 0.5), (8.0, 0.97)])
def test_shares_are_drawn_from_the_beta_distribution(alpha, middle):
    mixup = draw_mixing(Augment(mixup=alpha), 5000, 32, drawn(4))
    cutmix = draw_mixing(Augment(cutmix=alpha), 5000, 32, drawn(4))
    assert mixup.shares.mean() == pytest.approx(0.5, abs=0.03)
    # Rectangles are cut off at the borders.
    assert cutmix.shares.mean() > mixup.shares.mean()
    share = ((mixup.shares > 0.25) & (mixup.shares < 0.75)).float().mean()
    assert share == pytest.approx(middle, abs=0.03)


def test_as_many_are_mixed_as_the_probability_says_by_either_at_even_chances():
    augment = Augment(mixup=1.0, cutmix=1.0, mix_probability=0.3)
    mixing = draw_mixing(augment, 5000, 32, drawn(5))
    mixed = mixing.shares < 1
    assert mixed.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (mixing.rectangles[mixed][:, 2] > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert len(set(mixing.partners[mixed].tolist())) == mixed.sum()


def test_what_is_not_given_is_no_part_of_an_augmentations_name():
    assert Augment().given() == {"crop": 4, "flip": True}
    assert Augment(trivialaugment=False).given() == Augment().given()
    assert Augment(erasing=Erasing(0.5)).given() == {
        "crop": 4,
        "flip": True,
        "erasing": {"probability": 0.5, "area": (0.02, 0.33)},
    }
