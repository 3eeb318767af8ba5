"""Weights that are found in the cache of the Hugging Face hub."""

import pytest

from meanteacher.inspection.weights import CachedWeights, find_cached_weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; returns a function that puts a file of `size` bytes for a repository into it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def put(repository: str, file: str, size: int) -> None:
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        for name in ("blobs", "refs", "snapshots/abc"):
            (folder / name).mkdir(parents=True)
        (folder / "refs/main").write_text("abc")
        (folder / "blobs/1").write_bytes(bytes(size))
        (folder / "snapshots/abc" / file).symlink_to("../../blobs/1")

    return put


def test_the_smallest_or_the_largest_network_of_timm_is_taken(cache):
    assert find_cached_weights(largest=True) is None
    cache("openai/clip", "model.safetensors", 1)
    cache("timm/no_such_network", "model.safetensors", 10_000)
    cache("timm/resnet34.a1_in1k", "config.json", 20_000)
    assert find_cached_weights(largest=True) is None
    cache("timm/resnet18.a1_in1k", "model.safetensors", 100)
    cache("timm/vit_tiny_patch16_224.augreg_in21k", "model.safetensors", 3000)
    assert find_cached_weights(largest=False) == CachedWeights("resnet18.a1_in1k", 224, fixed=False)
    assert find_cached_weights(largest=True) == CachedWeights("vit_tiny_patch16_224.augreg_in21k", 224, fixed=True)


def test_no_cache_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert find_cached_weights(largest=False) is None
