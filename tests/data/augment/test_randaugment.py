"""RandAugment gives exactly the results of Pillow, image by image, with the same parameters."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from meanteacher.data.augment import RandAugmentLevels
from meanteacher.data.augment.randaugment import OPERATIONS, RandAugment

KEYS = {
    "operations": 1,
    "probability": 1.0,
    "enhance_min": 0.05,
    "enhance_max": 0.95,
    "bits": 4,
    "degrees": 30.0,
    "shear": 0.3,
    "translate": 0.3,
    "fill": 0.5,
}
RANGES = (  # of the magnitudes that KEYS give
    dict.fromkeys(["Brightness", "Color", "Contrast", "Sharpness"], (0.05, 0.95))
    | dict.fromkeys(["ShearX", "ShearY", "TranslateX", "TranslateY"], (-0.3, 0.3))
    | {"Posterize": (4, 8), "Rotate": (-30, 30)}
    | dict.fromkeys(["AutoContrast", "Equalize", "Identity", "Solarize"], (0, 1))
)
MOVES = OPERATIONS[OPERATIONS.index("Rotate") :]
SHAPES = [(60, 3, 32, 32), (60, 1, 16, 16), (60, 3, 11, 18), (20, 3, 2, 3), (8, 3, 200, 300)]
SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "unique", "bincount", "masked_select", "item")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(shape=SHAPES[0], seed=1):
    """8-bit images: equal parts of noise, smooth images, images with 3 values and constant images."""
    source, quarter = generator(seed), (shape[0] // 4, *shape[1:])
    noise = torch.randint(0, 256, quarter, generator=source)
    coarse = torch.rand(*quarter[:2], 3, 3, generator=source) * torch.rand(*quarter[:2], 1, 1, generator=source)
    smooth = torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear") * 200 + 30
    few = torch.randint(0, 3, quarter, generator=source) * 40 + 7
    constant = torch.randint(0, 256, (*quarter[:2], 1, 1), generator=source).expand(quarter)
    return torch.cat([noise, smooth, few, constant]).round() / 255


def pillow(image):
    levels = (image * 255).round().byte().numpy()
    return Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))


def levels_of(picture):
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


def reference(picture, name, magnitude):
    width, height = picture.size
    fill = (128,) * len(picture.getbands())
    affine = {
        "ShearX": (1, magnitude, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, magnitude, 1, 0),
        "TranslateX": (1, 0, magnitude * width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, magnitude * height),
    }
    if name in affine:
        return picture.transform(picture.size, Image.Transform.AFFINE, affine[name], fillcolor=fill)
    if name == "Rotate":
        return picture.rotate(magnitude, fillcolor=fill)
    if name == "Posterize":
        return ImageOps.posterize(picture, int(magnitude))
    if name == "Solarize":
        return ImageOps.solarize(picture, 256 * magnitude)
    if name in ("AutoContrast", "Equalize"):
        return getattr(ImageOps, name.lower())(picture)
    return picture if name == "Identity" else getattr(ImageEnhance, name)(picture).enhance(magnitude)


def parameters(name, count, seed=3):
    """The parameters of one turn that applies one operation, with magnitudes from its range."""
    low, high = RANGES[name]
    share = torch.rand(1, count, 1, 1, 1, generator=generator(seed))
    magnitude = low + (high - low) * share
    return torch.full(share.shape, OPERATIONS.index(name)), magnitude.round() if name == "Posterize" else magnitude


def assert_each_matches(images, kind, magnitude):
    before = images.clone()
    results = RandAugment(**KEYS).apply(images, kind, magnitude)
    assert torch.equal(images, before)
    assert results.dtype == torch.float32 and results.shape == images.shape
    assert torch.equal(results, (results * 255).round() / 255)
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        picture = pillow(image)
        for turn in range(len(kind)):
            picture = reference(picture, OPERATIONS[kind[turn, index]], magnitude[turn, index].item())
        np.testing.assert_array_equal(levels_of(picture), (result * 255).round().byte().numpy())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_matches_pillow(name, shape):
    assert_each_matches(random_images(shape), *parameters(name, shape[0]))


@pytest.mark.parametrize("name", ["Brightness", "Color", "Contrast", "Sharpness"])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.9])
def test_enhancers_match_pillow_for_round_factors(name, factor):
    kind, magnitude = parameters(name, 60)
    assert_each_matches(random_images(), kind, torch.full_like(magnitude, factor))


@pytest.mark.parametrize("magnitude", [-1.5, -0.5, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", MOVES)
def test_moves_match_pillow_for_round_magnitudes(name, magnitude):
    kind = parameters(name, 12)[0]
    assert_each_matches(random_images((12, 3, 12, 12)), kind, torch.full(kind.shape, magnitude))


@pytest.mark.parametrize("shape", [(200, 3, 16, 16), (200, 1, 16, 16)])
def test_several_operations_in_turn_match_pillow(shape):
    images = random_images(shape)
    for operations in (2, 3):
        drawn = RandAugment(**KEYS | {"operations": operations}).draw(images, generator())
        assert_each_matches(images, *drawn)


def test_translate_moves_left_and_up():
    images = random_images((4, 3, 10, 20))
    kind, magnitude = parameters("TranslateX", 4)
    result = RandAugment(**KEYS | {"fill": 0.2}).apply(images, kind, torch.full_like(magnitude, 0.25))
    assert torch.equal(result[..., :15], images[..., 5:]) and torch.all(result[..., 15:] == 51 / 255)


def test_values_between_levels_are_rounded():
    images = torch.rand(8, 3, 8, 8, generator=generator())
    kind, magnitude = parameters("Identity", 8)
    assert torch.equal(RandAugment(**KEYS).apply(images, kind, magnitude), (images * 255).round() / 255)


def test_draws_are_uniform_and_independent():
    images = torch.empty(40_000, 3, 1, 1)
    kind, magnitude = RandAugment(**KEYS | {"operations": 2}).draw(images, generator())
    assert kind.shape == magnitude.shape == (2, 40_000, 1, 1, 1)
    assert kind.dtype == torch.int64 and magnitude.dtype == torch.float32
    pairs = (14 * kind[0] + kind[1]).flatten().bincount(minlength=196) / 40_000
    assert (pairs * 196 - 1).abs().max() < 0.35  # 5 standard deviations: the turns are independent and uniform
    for number, name in enumerate(OPERATIONS):
        drawn, (low, high) = magnitude[kind == number], RANGES[name]
        assert low <= drawn.min() and drawn.max() <= high + 1e-6
        assert drawn.mean().item() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
        wide = (high - low) / 12**0.5 if name != "Posterize" else 2**0.5
        assert drawn.std().item() == pytest.approx(wide, rel=0.05)
    assert magnitude[kind == OPERATIONS.index("Posterize")].unique().tolist() == [4, 5, 6, 7, 8]


def test_operations_are_applied_with_their_probability():
    images = random_images()
    assert torch.equal(RandAugment(**KEYS | {"probability": 0.0, "operations": 2})(images, generator()), images)
    kind, _ = RandAugment(**KEYS | {"probability": 0.5}).draw(torch.empty(20_000, 1, 1, 1), generator())
    assert (kind != 0).float().mean().item() == pytest.approx(0.5 * 13 / 14, abs=0.02)


def test_is_determined_by_the_generator_only():
    images, augment = random_images(), RandAugment(**KEYS | {"operations": 2})
    first = augment(images, generator(5))
    torch.manual_seed(123)
    assert torch.equal(first, augment(images, generator(5)))
    assert not torch.equal(first, augment(images, generator(6)))


def test_result_depends_neither_on_other_images_nor_on_memory_format():
    images, augment = random_images(), RandAugment(**KEYS | {"operations": 2})
    kind, magnitude = augment.draw(images, generator())
    together = augment.apply(images, kind, magnitude)
    separately = [augment.apply(images[i : i + 1], kind[:, i : i + 1], magnitude[:, i : i + 1]) for i in range(60)]
    assert torch.equal(together, torch.cat(separately))
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(together, augment.apply(last, kind, magnitude))


class NoSynchronization(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in SYNCHRONIZING), function
        masks = [index for index in args[1] if index is not None] if "aten.index" in str(function) else []
        assert not any(mask.dtype == torch.bool for mask in masks if isinstance(mask, torch.Tensor)), function
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_synchronization_and_no_data_dependent_shape(shape):
    augment = RandAugment(**KEYS | {"operations": 2})
    with NoSynchronization():
        augment(random_images(shape), generator())
    with FakeTensorMode():
        assert augment(torch.rand(shape), generator()).shape == shape


def test_levels_have_the_magnitudes_of_fixmatchs_authors():
    levels = np.arange(1, 10)
    signed = np.concatenate([-levels[::-1], levels])
    expected = (
        dict.fromkeys(["Brightness", "Color", "Contrast", "Sharpness"], 0.1 + 1.8 * levels / 10)
        | dict.fromkeys(["ShearX", "ShearY"], 0.3 * signed / 10)
        | dict.fromkeys(["TranslateX", "TranslateY"], signed / 32)
        | {"Rotate": [int(level * 30 / 10) * s for s in (-1, 1) for level in levels]}
        | {"Posterize": [4 - int(level * 4 / 10) for level in levels]}
        | {"Solarize": [(256 - int(level * 256 / 10)) / 256 for level in levels]}
    )
    augment = RandAugmentLevels(operations=2, probability=1.0, fill=0.5)
    kinds, magnitudes = augment.draw(torch.empty(20_000, 1, 1, 1), generator())
    for name, values in expected.items():
        drawn = magnitudes[kinds == OPERATIONS.index(name)].unique().numpy()
        assert drawn == pytest.approx(np.unique(values), rel=1e-5), name
    assert ((kinds == OPERATIONS.index("Rotate")) & (magnitudes == 27)).float().mean() == pytest.approx(
        1 / 14 / 18, rel=0.2
    )
