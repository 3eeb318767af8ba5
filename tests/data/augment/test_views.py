"""Views: the order of operations and normalization, and the checks before training."""

import numpy as np
import pytest
import torch
from augment_cases import OPERATIONS, generator, random_pixels

from meanteacher.config.errors import UserError
from meanteacher.data.augment import (
    ZCA,
    Augment,
    Cutout,
    GaussianNoise,
    Normalize,
    Operation,
    RandAugment,
    Translate,
)
from meanteacher.runs.build import build

RANDAUGMENT = {
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


class Recorder(Operation):
    """Adds a number, and records the mean of its input."""

    def __init__(self, number, after_normalization, calls):
        self.number, self.after_normalization, self.calls = number, after_normalization, calls

    def draw(self, images, generator):
        return ()

    def apply(self, images):
        self.calls.append((self.number, round(images.mean().item(), 3)))
        return images + self.number


def test_operations_are_applied_in_order():
    pixels = random_pixels(50)
    calls = []
    late, early, last = Recorder(100, True, calls), Recorder(1, False, calls), Recorder(3, False, calls)
    view = Augment(
        views={"weak": {"late": late, "early": early, "last": last}}, normalize=Normalize(), normalize_first=False
    )
    view.fit(pixels)
    result = view(torch.from_numpy(pixels), "weak", generator())
    unit = torch.from_numpy(pixels) / 255
    torch.testing.assert_close(result, view.normalize(unit + 4) + 100, rtol=1e-5, atol=1e-5)
    mean = unit.mean().item()
    normalized = view.normalize(unit + 4).mean().item()
    assert calls == [(1, round(mean, 3)), (3, round(mean + 1, 3)), (100, pytest.approx(normalized, abs=0.002))]


def test_noise_comes_after_normalization():
    pixels = random_pixels(64, side=16)
    view = Augment(views={"noisy": {"noise": GaussianNoise(std=0.15)}}, normalize=Normalize(), normalize_first=False)
    view.fit(pixels)
    images = torch.from_numpy(pixels)
    noise = view(images, "noisy", generator()) - view.evaluation(images)
    assert noise.std().item() == pytest.approx(0.15, rel=0.02)
    assert [operation.after_normalization for operation in OPERATIONS] == [False] * 5 + [True, False, False]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalize", [Normalize(), ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
def test_views_are_normalized_and_keep_their_input(channels, normalize):
    pixels = random_pixels(40, channels)
    steps = {str(position): operation for position, operation in enumerate(OPERATIONS)}
    view = Augment(views={"strong": steps, "plain": {}}, normalize=normalize, normalize_first=False)
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


def test_unknown_view_is_refused():
    view = Augment(views={"weak": {}, "strong": {}}, normalize=Normalize(), normalize_first=False)
    with pytest.raises(UserError, match="^augment has no view 'strnog'; its views: weak, strong$"):
        view(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "strnog", generator())


def test_normalize_first_applies_every_operation_to_the_normalized_images():
    pixels, calls = random_pixels(50), []
    operations = {"first": Recorder(2, False, calls), "second": Recorder(100, True, calls)}
    augment = Augment(views={"weak": operations}, normalize=ZCA(scale=55.0, epsilon=0.1), normalize_first=True)
    augment.fit(pixels)
    result = augment(torch.from_numpy(pixels), "weak", generator())
    torch.testing.assert_close(result, augment.normalize(torch.from_numpy(pixels) / 255) + 102)
    assert [number for number, _ in calls] == [2, 100]


def test_operations_on_pixel_values_are_refused_after_the_normalization():
    augment = Augment(views={"strong": {"ra": RandAugment(**RANDAUGMENT)}}, normalize=Normalize(), normalize_first=True)
    with pytest.raises(UserError, match="views.strong.ra: needs images in .*use augment.normalize_first=false"):
        augment.fit(random_pixels(5))


@pytest.mark.parametrize(
    ("operation", "shape", "words"),
    [
        (Translate(pixels=4, padding="reflect"), (3, 4, 9), "pixels=4 cannot be padded .* use pixels=3 or less"),
        (Translate(pixels=5, padding="zero"), (3, 4, 4), "pixels=5 is more than the side"),
        (Cutout(side=0.4, value=0.0), (1, 1, 1), "side=0.4 is less than half a pixel"),
        (RandAugment(**RANDAUGMENT), (4, 8, 8), "1 or 3 channels, not 4"),
    ],
)
def test_shapes_that_an_operation_cannot_process_are_refused_by_name(operation, shape, words):
    augment = Augment(views={"weak": {}, "strong": {"second": operation}}, normalize=Normalize(), normalize_first=False)
    with pytest.raises(UserError, match=rf"^augment\.views\.strong\.second: .*{words}"):
        augment.fit(np.zeros((5, *shape), np.uint8))


@pytest.mark.parametrize(
    ("key", "value", "target"), [("scale_min", 0.9, "CropResize"), ("enhance_min", 2.0, "RandAugment")]
)
def test_reversed_ranges_are_refused(key, value, target):
    settings = {"CropResize": {"scale_min": 0.5, "scale_max": 0.6}, "RandAugment": RANDAUGMENT}[target]
    operation = {"_target_": f"meanteacher.data.augment.{target}"} | settings
    node = {"_target_": "meanteacher.data.augment.Augment", "views": {"weak": {"operation": operation}}}
    node["normalize_first"] = False
    node["normalize"] = {"_target_": "meanteacher.data.augment.Normalize"}
    assert build(node).views["weak"]
    operation[key] = value
    with pytest.raises(UserError, match=f"^{target}: {key}={value} is greater than "):
        build(node)


def test_zca_of_large_images_is_refused():
    with pytest.raises(UserError, match="ZCA: images of 3×200×200 have 120000 values"):
        ZCA(scale=55.0, epsilon=0.1).fit(np.zeros((1, 3, 200, 200), np.uint8))
