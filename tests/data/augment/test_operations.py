"""Batched operations against torchvision and NumPy, image by image, with the same parameters."""

import math

import numpy as np
import pytest
import torch
from augment_cases import JITTER, OPERATIONS, SHAPES, generator, operation_name, random_images
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from meanteacher.config.errors import UserError
from meanteacher.data.augment import (
    CropResize,
    Cutout,
    Flip,
    GaussianNoise,
    Jitter,
    RandomCutout,
    Translate,
)

IDENTITIES = [
    Translate(pixels=0, padding="reflect"),
    Translate(pixels=0, padding="zero"),
    Flip(probability=0.0),
    CropResize(scale_min=1.0, scale_max=1.0),
    Jitter(**JITTER),
    GaussianNoise(std=0.0),
    Cutout(side=0.0, value=0.5),
]


def assert_each_matches(operation, images, reference, tolerance=1e-6):
    """Compare the whole batch with `reference(image, *parameters)` for each image."""
    parameters = operation.draw(images, generator())
    results = operation.apply(images, *parameters)
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        expected = reference(image, *(parameter[index].item() for parameter in parameters))
        torch.testing.assert_close(result, torch.as_tensor(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_translate_matches_numpys_padding(shape, padding, mode):
    def reference(image, top, left):
        padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)), mode=mode)
        return padded[:, top : top + shape[2], left : left + shape[3]]

    assert_each_matches(Translate(pixels=4, padding=padding), random_images(shape), reference, 0)


def test_translate_reaches_the_largest_offsets():
    images = random_images((1, 3, 5, 5))
    for padding, mode in (("reflect", "reflect"), ("zero", "constant")):
        padded = np.pad(images[0].numpy(), ((0, 0), (4, 4), (4, 4)), mode=mode)
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4)):
            offsets = (torch.full((1, 1, 1, 1), offset) for offset in (top, left))
            result = Translate(pixels=4, padding=padding).apply(images, *offsets)
            np.testing.assert_array_equal(result[0].numpy(), padded[:, top : top + 5, left : left + 5])


def test_translate_refuses_images_that_are_too_small():
    with pytest.raises(
        UserError, match="^pixels=16 cannot be padded by reflection on images of 16×20 pixels; use pixels=15 or"
    ):
        Translate(pixels=16, padding="reflect").check(3, 16, 20)
    Translate(pixels=15, padding="reflect").check(3, 16, 20)
    Translate(pixels=20, padding="zero").check(3, 16, 20)
    with pytest.raises(UserError, match="pixels=21 is more than the side"):
        Translate(pixels=21, padding="zero").check(3, 16, 20)
    assert Translate(pixels=16, padding="zero")(random_images(), generator()).shape == SHAPES[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_matches_torchvision(shape):
    def reference(image, flipped):
        return tv.hflip(image) if flipped else image

    assert_each_matches(Flip(probability=0.5), random_images(shape), reference, 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scales", [(0.05, 1.0), (0.0, 0.0), (0.9, 1.0)])
def test_crop_resize_matches_torchvision(shape, scales):
    def reference(image, top, left, side):
        return tv.resized_crop(image, top, left, side, side, shape[2:], InterpolationMode.BILINEAR, antialias=False)

    assert_each_matches(CropResize(scale_min=scales[0], scale_max=scales[1]), random_images(shape), reference, 2e-6)


def test_crop_resize_uses_pixels_of_the_square_only():
    images = torch.full((4, 3, 16, 16), math.nan)
    images[:, :, 5:9, 6:10] = 0.5
    top, left, side = (torch.full((4, 1, 1, 1), number) for number in (5, 6, 4))
    assert torch.all(CropResize(scale_min=0.1, scale_max=0.2).apply(images, top, left, side) == 0.5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [0.3, 0.5])
def test_each_step_of_jitter_matches_torchvision(shape, step, strength):
    def reference(image, *parameters):
        return getattr(tv, f"adjust_{step}")(image, parameters[list(JITTER).index(step)])

    assert_each_matches(Jitter(**JITTER | {step: strength}), random_images(shape), reference, 2e-6)


def test_jitter_applies_its_steps_in_order():
    def reference(image, brightness, contrast, saturation, hue):
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue)

    jitter = Jitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    assert_each_matches(jitter, random_images((40, 3, 8, 8)), reference, 5e-6)


def test_hue_of_gray_and_primary_colors_matches_torchvision():
    colors = torch.tensor(
        [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]
    )
    images = colors[:, :, None, None].expand(-1, -1, 4, 4)
    assert_each_matches(Jitter(**JITTER | {"hue": 0.5}), images, lambda image, *rest: tv.adjust_hue(image, rest[3]))


def test_hue_and_saturation_do_not_change_one_channel():
    images = random_images(SHAPES[1])
    assert torch.equal(Jitter(**JITTER | {"hue": 0.5, "saturation": 0.9})(images, generator()), images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_cutout_matches_slicing(shape, share):
    side = round(share * min(shape[2:]))

    def reference(image, row, column):
        image = image.clone()
        top, left = row - side // 2, column - side // 2
        image[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0.25
        return image

    assert_each_matches(Cutout(side=share, value=0.25), random_images(shape), reference, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_random_cutout_fills_a_square_that_starts_inside_the_image(shape):
    def reference(image, top, left, side):
        image = image.clone()
        image[:, top : top + side, left : left + side] = 0.25
        return image

    operation = RandomCutout(side=0.5, value=0.25)
    assert_each_matches(operation, random_images(shape), reference, 0)
    top, left, side = operation.draw(torch.empty(4000, 3, 12, 12), generator())
    assert side.unique().tolist() == list(range(1, 7)) and top.min() == left.min() == 0 and top.max() == 11
    assert side.float().mean().item() == pytest.approx(3.5, abs=0.1)
    assert (top == 0).float().mean().item() == pytest.approx(1 / 12 + 1.5 / 12, abs=0.02), "center below 1 + v / 2"


@pytest.mark.parametrize("operation", OPERATIONS, ids=operation_name)
@pytest.mark.parametrize("shape", SHAPES)
class TestEveryOperation:
    def test_keeps_shape_dtype_and_input(self, operation, shape):
        images = random_images(shape)
        before = images.clone()
        result = operation(images, generator())
        assert result.shape == images.shape and result.dtype == torch.float32
        assert torch.equal(images, before)
        if not operation.after_normalization:
            assert result.min() >= 0 and result.max() <= 1

    def test_is_determined_by_the_generator_only(self, operation, shape):
        images = random_images(shape)
        first = operation(images, generator(5))
        torch.manual_seed(123)
        assert torch.equal(first, operation(images, generator(5)))
        assert not torch.equal(first, operation(images, generator(6)))
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        operation(images, generator(5))
        assert torch.equal(torch.rand(3), expected)

    def test_each_image_gets_its_own_parameters(self, operation, shape):
        image = random_images(shape)[:1].expand(32, -1, -1, -1)
        results = operation(image, generator())
        assert len(torch.unique(results.flatten(1), dim=0)) > (1 if isinstance(operation, Flip) else 5)

    def test_does_not_depend_on_the_memory_format(self, operation, shape):
        images = random_images(shape)
        other = images.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(operation(images, generator()), operation(other, generator()))

    def test_has_no_shape_or_host_value_that_depends_on_data(self, operation, shape):
        with FakeTensorMode():  # .item(), nonzero() and boolean indexing raise here
            assert operation(torch.rand(shape), generator()).shape == shape


@pytest.mark.parametrize("operation", IDENTITIES, ids=operation_name)
@pytest.mark.parametrize("channels", [1, 3])
def test_neutral_settings_change_nothing(operation, channels):
    images = random_images((6, channels, 16, 16))
    assert torch.equal(operation(images, generator()), images)


def test_flip_with_probability_1():
    images = random_images()
    assert torch.equal(Flip(probability=1.0)(images, generator()), images.flip(3))


def test_draws_have_the_documented_ranges():
    images = torch.empty(4000, 3, 6, 10)
    for offsets in Translate(pixels=3, padding="zero").draw(images, generator()):
        assert offsets.dtype == torch.int64 and offsets.unique().tolist() == list(range(7))
    assert Flip(probability=0.3).draw(images, generator())[0].float().mean().item() == pytest.approx(0.3, abs=0.03)
    row, column = Cutout(side=0.5, value=0.0).draw(images, generator())
    assert row.unique().tolist() == list(range(6)) and column.unique().tolist() == list(range(10))
    noise = GaussianNoise(std=0.2).draw(images, generator())[0]
    assert noise.mean().item() == pytest.approx(0, abs=1e-3) and noise.std().item() == pytest.approx(0.2, rel=0.01)


def test_jitter_draws_have_the_documented_ranges():
    draws = Jitter(brightness=0.4, contrast=1.5, saturation=0.0, hue=0.1).draw(torch.empty(4000, 3, 1, 1), generator())
    for parameter, low, high in zip(draws, (0.6, 0.0, 1.0, -0.1), (1.4, 2.5, 1.0, 0.1), strict=True):
        assert low - 1e-6 <= parameter.min() and parameter.max() <= high + 1e-6
        assert parameter.min().item() == pytest.approx(low, abs=0.01)
        assert parameter.max().item() == pytest.approx(high, abs=0.01)
        assert parameter.mean().item() == pytest.approx((low + high) / 2, abs=0.04)


def test_crop_draws_have_the_documented_ranges():
    images = torch.empty(20_000, 1, 64, 64)
    top, left, side = CropResize(scale_min=0.25, scale_max=1.0).draw(images, generator())
    assert side.min() == 32 and side.max() == 64
    assert torch.all((top >= 0) & (left >= 0) & (top + side <= 64) & (left + side <= 64))
    area = side.double().square() / 64**2
    assert area.mean().item() == pytest.approx(0.625, abs=0.01)
    assert area.std().item() == pytest.approx(0.75 / 12**0.5, abs=0.01)
    for start in (top, left):
        share = (start / (64 - side).clamp(min=1))[side < 60]
        assert share.min() == 0 and share.max() == 1 and share.mean().item() == pytest.approx(0.5, abs=0.02)
    tall = CropResize(scale_min=1.0, scale_max=1.0).draw(torch.empty(100, 1, 40, 10), generator())
    assert torch.all(tall[2] == 10) and tall[0].unique().numel() > 10 and torch.all(tall[1] == 0)


@pytest.mark.gpu
@pytest.mark.parametrize("operation", OPERATIONS, ids=operation_name)
def test_no_synchronization_on_cuda(operation):
    images, source = random_images().cuda(), torch.Generator("cuda").manual_seed(0)
    operation(images, source)
    torch.cuda.set_sync_debug_mode("error")
    try:
        parameters = operation.draw(images, source)
        result = operation.apply(images, *parameters)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = operation.apply(images.cpu(), *(parameter.cpu() for parameter in parameters))
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-5, atol=1e-5)
