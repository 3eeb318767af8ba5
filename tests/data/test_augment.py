"""Batched augmentation against torchvision and numpy, image by image, with the parameters that were drawn."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from meanteacher.config.errors import UserError
from meanteacher.data.augment import (
    ZCA,
    Augment,
    CropResize,
    Cutout,
    Flip,
    GaussianNoise,
    Jitter,
    Normalize,
    Operation,
    Translate,
)
from meanteacher.data.augment import normalize as normalize_module

JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
OPERATIONS = [
    Translate(pixels=4, padding="reflect"),
    Translate(pixels=4, padding="zero"),
    Flip(probability=0.5),
    CropResize(scale_min=0.2, scale_max=0.9),
    Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
    GaussianNoise(std=0.15),
    Cutout(side=0.5, value=0.5),
]
IDENTITIES = [
    Translate(pixels=0, padding="reflect"),
    Translate(pixels=0, padding="zero"),
    Flip(probability=0.0),
    CropResize(scale_min=1.0, scale_max=1.0),
    Jitter(**JITTER),
    GaussianNoise(std=0.0),
    Cutout(side=0.0, value=0.5),
]
SHAPES = [(12, 3, 16, 16), (12, 1, 16, 16), (12, 3, 11, 18)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(shape=SHAPES[0], seed=1):
    return torch.rand(shape, generator=generator(seed))


def random_pixels(count, channels=3, side=8, seed=2):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def operation_name(operation):
    return type(operation).__name__ + getattr(operation, "padding", "")


def assert_each_matches(operation, images, reference, tolerance=1e-6):
    """The whole batch against `reference(image, *its parameters)`, one image at a time."""
    parameters = operation.draw(images, generator())
    results = operation.apply(images, *parameters)
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        expected = reference(image, *(parameter[index].item() for parameter in parameters))
        torch.testing.assert_close(result, torch.as_tensor(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_translate_crops_what_numpy_pads(shape, padding, mode):
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


def test_translate_by_more_than_the_image_can_reflect():
    with pytest.raises(UserError, match="^Translate: images of side 16 cannot reflect 16 pixels$"):
        Translate(pixels=16, padding="reflect")(random_images(), generator())
    assert Translate(pixels=16, padding="zero")(random_images(), generator()).shape == SHAPES[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_flip(shape):
    def reference(image, flipped):
        return tv.hflip(image) if flipped else image

    assert_each_matches(Flip(probability=0.5), random_images(shape), reference, 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scales", [(0.05, 1.0), (0.0, 0.0), (0.9, 1.0)])
def test_crop_resize(shape, scales):
    def reference(image, top, left, side):
        return tv.resized_crop(image, top, left, side, side, shape[2:], InterpolationMode.BILINEAR, antialias=False)

    assert_each_matches(CropResize(scale_min=scales[0], scale_max=scales[1]), random_images(shape), reference, 2e-6)


def test_crop_resize_sees_nothing_outside_the_square():
    images = torch.full((4, 3, 16, 16), math.nan)
    images[:, :, 5:9, 6:10] = 0.5
    top, left, side = (torch.full((4, 1, 1, 1), number) for number in (5, 6, 4))
    assert torch.all(CropResize(scale_min=0.1, scale_max=0.2).apply(images, top, left, side) == 0.5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [0.3, 0.5])
def test_jitter_one_step(shape, step, strength):
    def reference(image, *parameters):
        return getattr(tv, f"adjust_{step}")(image, parameters[list(JITTER).index(step)])

    assert_each_matches(Jitter(**JITTER | {step: strength}), random_images(shape), reference, 2e-6)


def test_jitter_order():
    def reference(image, brightness, contrast, saturation, hue):
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue)

    jitter = Jitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    assert_each_matches(jitter, random_images((40, 3, 8, 8)), reference, 5e-6)


def test_hue_of_greys_primaries_and_ties():
    colours = torch.tensor(
        [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]
    )
    images = colours[:, :, None, None].expand(-1, -1, 4, 4)
    assert_each_matches(Jitter(**JITTER | {"hue": 0.5}), images, lambda image, *rest: tv.adjust_hue(image, rest[3]))


def test_hue_and_saturation_leave_one_channel_alone():
    images = random_images(SHAPES[1])
    assert torch.equal(Jitter(**JITTER | {"hue": 0.5, "saturation": 0.9})(images, generator()), images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_cutout(shape, share):
    side = round(share * min(shape[2:]))

    def reference(image, row, column):
        image = image.clone()
        top, left = row - side // 2, column - side // 2
        image[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0.25
        return image

    assert_each_matches(Cutout(side=share, value=0.25), random_images(shape), reference, 0)


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

    def test_is_determined_by_the_generator_alone(self, operation, shape):
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

    def test_images_get_parameters_of_their_own(self, operation, shape):
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
def test_identities(operation, channels):
    images = random_images((6, channels, 16, 16))
    assert torch.equal(operation(images, generator()), images)


def test_flip_with_certainty():
    images = random_images()
    assert torch.equal(Flip(probability=1.0)(images, generator()), images.flip(3))


def test_ranges_of_draws():
    images = torch.empty(4000, 3, 6, 10)
    for offsets in Translate(pixels=3, padding="zero").draw(images, generator()):
        assert offsets.dtype == torch.int64 and offsets.unique().tolist() == list(range(7))
    assert Flip(probability=0.3).draw(images, generator())[0].float().mean().item() == pytest.approx(0.3, abs=0.03)
    row, column = Cutout(side=0.5, value=0.0).draw(images, generator())
    assert row.unique().tolist() == list(range(6)) and column.unique().tolist() == list(range(10))
    noise = GaussianNoise(std=0.2).draw(images, generator())[0]
    assert noise.mean().item() == pytest.approx(0, abs=1e-3) and noise.std().item() == pytest.approx(0.2, rel=0.01)


def test_range_of_jitter():
    draws = Jitter(brightness=0.4, contrast=1.5, saturation=0.0, hue=0.1).draw(torch.empty(4000, 3, 1, 1), generator())
    for parameter, low, high in zip(draws, (0.6, 0.0, 1.0, -0.1), (1.4, 2.5, 1.0, 0.1), strict=True):
        assert low - 1e-6 <= parameter.min() and parameter.max() <= high + 1e-6
        assert parameter.min().item() == pytest.approx(low, abs=0.01)
        assert parameter.max().item() == pytest.approx(high, abs=0.01)
        assert parameter.mean().item() == pytest.approx((low + high) / 2, abs=0.04)


def test_range_of_crops():
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


@pytest.fixture(params=[2**22, 500], ids=["one chunk", "many chunks"])
def chunked(request, monkeypatch):
    monkeypatch.setattr(normalize_module, "FIT_VALUES", request.param)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize(chunked, channels, tmp_path):
    pixels = random_pixels(37, channels)
    pixels[:, 0] //= 3
    file = np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="w+", shape=pixels.shape)
    file[:] = pixels
    file.flush()
    normalize = Normalize()
    normalize.fit(np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="r", shape=pixels.shape))
    unit = pixels / 255
    np.testing.assert_allclose(normalize.mean.flatten(), unit.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(normalize.std.flatten(), unit.std((0, 2, 3)), rtol=1e-6)
    assert normalize.mean.dtype == normalize.std.dtype == torch.float32
    result = normalize(torch.from_numpy(pixels) / 255)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(channels), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(channels))


def test_normalize_refuses_a_channel_of_one_value():
    pixels = random_pixels(5)
    pixels[:, 1] = 7
    with pytest.raises(UserError, match="channel 1 has one value"):
        Normalize().fit(pixels)


def contrast_normalized(pixels, scale):
    rows = pixels.reshape(len(pixels), -1).astype(np.float64) / 255
    rows -= rows.mean(1, keepdims=True)
    return scale * rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_zca_whitens(chunked, channels):
    pixels, scale, epsilon = random_pixels(600, channels, side=4), 7.0, 0.05
    zca = ZCA(scale=scale, epsilon=epsilon)
    zca.fit(pixels)
    rows = contrast_normalized(pixels, scale)
    covariance = np.cov(rows.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    whitened = zca(torch.from_numpy(pixels) / 255)
    assert whitened.shape == pixels.shape and whitened.dtype == torch.float32
    expected = (rows - rows.mean(0)) @ (vectors / np.sqrt(values + epsilon)) @ vectors.T
    np.testing.assert_allclose(whitened.flatten(1), expected, atol=1e-4)
    shrunk = (vectors * (values / (values + epsilon))) @ vectors.T
    np.testing.assert_allclose(np.cov(whitened.flatten(1).double().T, bias=True), shrunk, atol=1e-4)


def test_zca_with_little_epsilon_gives_the_identity_covariance():
    pixels = random_pixels(600, 3, side=4)
    zca = ZCA(scale=55.0, epsilon=1e-4)
    zca.fit(pixels)
    covariance = np.cov(zca(torch.from_numpy(pixels) / 255).flatten(1).double().T, bias=True)
    missing = np.full_like(covariance, 1 / 48)  # the direction that subtracting each image's mean removes
    np.testing.assert_allclose(covariance, np.eye(48) - missing, atol=2e-3)


def test_zca_fits_on_evenly_spaced_images(monkeypatch):
    monkeypatch.setattr(normalize_module, "ZCA_IMAGES", 50)
    pixels = random_pixels(125, 1, side=3)
    some, chosen = ZCA(scale=55.0, epsilon=0.1), ZCA(scale=55.0, epsilon=0.1)
    some.fit(pixels)
    chosen.fit(pixels[[i * 125 // 50 for i in range(50)]])
    assert torch.equal(some.mean, chosen.mean) and torch.equal(some.matrix, chosen.matrix)


def test_zca_takes_an_image_of_one_value_as_zero():
    pixels = random_pixels(50, 1, side=3)
    pixels[0], pixels[1] = 0, 91
    zca = ZCA(scale=55.0, epsilon=0.1)
    zca.fit(pixels)
    expected = (-zca.mean @ zca.matrix).view(1, 1, 3, 3).expand(2, -1, -1, -1)
    torch.testing.assert_close(zca(torch.from_numpy(pixels[:2]) / 255), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("normalize", [Normalize(), ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
def test_use_before_fit(normalize):
    with pytest.raises(RuntimeError, match="used before fit"):
        normalize.to("cpu")(random_images())


@pytest.mark.parametrize("build", [Normalize, lambda: ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
@pytest.mark.parametrize("first", ["fit", "to"])
def test_fitted_tensors_are_on_the_device(build, first):
    normalize = build()
    for step in ("fit", "to") if first == "fit" else ("to", "fit"):
        normalize.fit(random_pixels(20)) if step == "fit" else normalize.to("meta")
    assert {tensor.device.type for tensor in vars(normalize).values() if isinstance(tensor, torch.Tensor)} == {"meta"}


class Recorder(Operation):
    """Adds a number and notes the mean of what it was given."""

    def __init__(self, number, after_normalization, seen):
        self.number, self.after_normalization, self.seen = number, after_normalization, seen

    def draw(self, images, generator):
        return ()

    def apply(self, images):
        self.seen.append((self.number, round(images.mean().item(), 3)))
        return images + self.number


def test_augment_order():
    pixels = random_pixels(50)
    seen = []
    late, early, last = Recorder(100, True, seen), Recorder(1, False, seen), Recorder(3, False, seen)
    view = Augment(views={"weak": {"late": late, "early": early, "last": last}}, normalize=Normalize())
    view.fit(pixels)
    result = view(torch.from_numpy(pixels), "weak", generator())
    unit = torch.from_numpy(pixels) / 255
    torch.testing.assert_close(result, view.normalize(unit + 4) + 100, rtol=1e-5, atol=1e-5)
    mean = unit.mean().item()
    normalized = view.normalize(unit + 4).mean().item()
    assert seen == [(1, round(mean, 3)), (3, round(mean + 1, 3)), (100, pytest.approx(normalized, abs=0.002))]


def test_noise_comes_after_normalization():
    pixels = random_pixels(64, side=16)
    view = Augment(views={"noisy": {"noise": GaussianNoise(std=0.15)}}, normalize=Normalize())
    view.fit(pixels)
    images = torch.from_numpy(pixels)
    noise = view(images, "noisy", generator()) - view.evaluation(images)
    assert noise.std().item() == pytest.approx(0.15, rel=0.02)
    assert [operation.after_normalization for operation in OPERATIONS] == [False] * 5 + [True, False]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalize", [Normalize(), ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
def test_augment_views(channels, normalize):
    pixels = random_pixels(40, channels)
    steps = {str(position): operation for position, operation in enumerate(OPERATIONS)}
    view = Augment(views={"strong": steps, "plain": {}}, normalize=normalize)
    view.fit(pixels)
    assert view.to("cpu") is view
    images = torch.from_numpy(pixels)[:16]
    before = images.clone()
    for result in (view(images, "strong", generator()), view.evaluation(images)):
        assert result.shape == images.shape and result.dtype == torch.float32 and result.isfinite().all()
        assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(view(images, "plain", generator()), view.evaluation(images))
    torch.testing.assert_close(view.evaluation(images), normalize(images / 255))
    assert torch.equal(view(images, "strong", generator(3)), view(images, "strong", generator(3)))
    assert torch.equal(images, before)


def test_unknown_view():
    view = Augment(views={"weak": {}, "strong": {}}, normalize=Normalize())
    with pytest.raises(UserError, match="^augment has no view 'strnog'; its views: weak, strong$"):
        view(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "strnog", generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("operation", OPERATIONS, ids=operation_name)
def test_cuda_does_not_synchronise(operation):
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
