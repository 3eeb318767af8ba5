"""The order of operations and normalization in a view."""

import pytest
import torch
from augment_cases import OPERATIONS, generator, random_pixels

from meanteacher.config.errors import UserError
from meanteacher.data.augment import (
    ZCA,
    Augment,
    GaussianNoise,
    Normalize,
    Operation,
)


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
