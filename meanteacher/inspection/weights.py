"""Trained weights that are on this machine already, to start from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CachedWeights:
    """Weights of a network of timm in the cache of the Hugging Face hub.

    name: the network with its weights, as `model.name`; image_size: the side of the images that they were trained on,
    in pixels; fixed: whether the network takes no other size.
    """

    name: str
    image_size: int
    fixed: bool


def find_cached_weights(largest: bool) -> CachedWeights | None:
    """The largest or the smallest weights of a classifier of timm in the cache, by bytes; None without timm or any."""
    try:
        import timm
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return None
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return None
    for repository in sorted(repositories, key=lambda repository: repository.size_on_disk, reverse=largest):
        owner, _, name = repository.repo_id.partition("/")
        files = {file.file_name for revision in repository.revisions for file in revision.files}
        if owner == "timm" and files & {"model.safetensors", "pytorch_model.bin"} and timm.is_model(name):
            config = timm.get_pretrained_cfg(name)
            return CachedWeights(name, config.input_size[1], config.fixed_input_size)
    return None
