"""Normalizations against NumPy."""

import numpy as np
import pytest
import torch
from augment_cases import random_images, random_pixels

from meanteacher.config.errors import UserError
from meanteacher.data.augment import (
    ZCA,
    Normalize,
    NormalizeEachImage,
)
from meanteacher.data.augment import normalize as normalize_module


@pytest.fixture(params=[2**22, 500], ids=["one chunk", "many chunks"])
def chunked(request, monkeypatch):
    monkeypatch.setattr(normalize_module, "FIT_VALUES", request.param)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_matches_numpy(chunked, channels, tmp_path):
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
def test_zca_matches_numpy(chunked, channels):
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


def test_zca_with_small_epsilon_gives_the_identity_covariance():
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


def test_zca_treats_a_constant_image_as_zero():
    pixels = random_pixels(50, 1, side=3)
    pixels[0], pixels[1] = 0, 91
    zca = ZCA(scale=55.0, epsilon=0.1)
    zca.fit(pixels)
    expected = (-zca.mean @ zca.matrix).view(1, 1, 3, 3).expand(2, -1, -1, -1)
    torch.testing.assert_close(zca(torch.from_numpy(pixels[:2]) / 255), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("normalize", [Normalize(), ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
def test_use_before_fit_raises(normalize):
    with pytest.raises(RuntimeError, match="used before fit"):
        normalize.to("cpu")(random_images())


@pytest.mark.parametrize("build", [Normalize, lambda: ZCA(scale=55.0, epsilon=0.1)], ids=["Normalize", "ZCA"])
@pytest.mark.parametrize("first", ["fit", "to"])
def test_fitted_tensors_are_on_the_device(build, first):
    normalize = build()
    for step in ("fit", "to") if first == "fit" else ("to", "fit"):
        normalize.fit(random_pixels(20)) if step == "fit" else normalize.to("meta")
    assert {tensor.device.type for tensor in vars(normalize).values() if isinstance(tensor, torch.Tensor)} == {"meta"}


def test_each_image_is_normalized_over_all_of_its_values():
    pixels = random_pixels(6)
    pixels[0] = 7
    normalize = NormalizeEachImage()
    normalize.fit(pixels)
    x = pixels.astype(np.float64) / 255
    expected = (x - x.mean((1, 2, 3), keepdims=True)) / np.maximum(x.std((1, 2, 3), keepdims=True), 1e-6)
    assert normalize(torch.from_numpy(pixels) / 255).numpy() == pytest.approx(expected, abs=1e-4)
