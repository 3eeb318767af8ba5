"""Networks that start from trained weights: reading files, adapting them, and what normalized their images."""

import json
import logging
from pathlib import Path

import pytest
import torch
from conftest import parsed, settings
from safetensors.torch import save_file
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.models import pretrained
from meanteacher.models.weights import read_weights
from meanteacher.runs.build import SkipRandomInitialization, build
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session

timm = pytest.importorskip("timm")


def network(name: str, *overrides: str, channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(1)
    node = settings("model=timm", f"model.name={name}", *overrides)["model"]
    return build(node, channels=channels, classes=classes)


@pytest.fixture(scope="module")
def vit() -> dict[str, torch.Tensor]:
    """The weights of timm's `test_vit` for images of 64×64 pixels and 10 classes."""
    torch.manual_seed(5)
    model = timm.create_model("test_vit", img_size=64, num_classes=10)
    nn.init.normal_(model.pos_embed)
    return model.state_dict()


@pytest.fixture
def file(tmp_path, vit) -> Path:
    torch.save(vit, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


@pytest.mark.parametrize("wrap", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_checkpoints_of_training_programs_are_unwrapped(wrap, prefix, tmp_path):
    weights = {"a.weight": torch.ones(2), "module_b.bias": torch.zeros(1)}
    stored = {f"{prefix}{name}": value for name, value in weights.items()}
    stored = stored | {"epoch": 3} if wrap is None else {"epoch": 3, wrap: stored, "optimizer": {"x": torch.ones(9)}}
    torch.save(stored, tmp_path / "w.pth")
    read = read_weights(tmp_path / "w.pth")
    assert read.keys() == weights.keys() and all(torch.equal(read[name], weights[name]) for name in weights)


class Harmful:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([torch.ones(2)], "holds a list without named tensors; save network.state_dict\\(\\)"),
        ({"epoch": 3}, "holds a dict without named tensors"),
        (Harmful(), "cannot be read \\(Weights only load failed"),
    ],
)
def test_a_file_without_named_tensors_is_refused_in_one_line(stored, message, tmp_path, capsys):
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message) as error:
        network("test_resnet", f"model.weights={tmp_path}/w.pth")
    assert "\n" not in str(error.value) and not capsys.readouterr().out


def test_position_embeddings_are_resized_and_the_rest_is_loaded_as_it_is(file, vit):
    loaded = network("test_vit", "model.image_size=32", f"model.weights={file}").network.state_dict()
    grid = vit["pos_embed"][:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    resized = nn.functional.interpolate(grid, size=(2, 2), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(loaded["pos_embed"][:, 1:], resized.permute(0, 2, 3, 1).flatten(1, 2))
    assert torch.equal(loaded["pos_embed"][:, :1], vit["pos_embed"][:, :1])
    others = [name for name in vit if name != "pos_embed" and not name.startswith("head.")]
    assert len(others) > 50 and all(torch.equal(loaded[name], vit[name]) for name in others)


def test_a_first_convolution_of_color_images_is_summed_for_gray_images(file, vit):
    loaded = network("test_vit", "model.image_size=64", f"model.weights={file}", channels=1)
    weight = loaded.network.state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(weight, vit["patch_embed.proj.weight"].sum(1, keepdim=True))
    assert loaded.weights_input.mean == (0.5,) and loaded.weights_input.std == (0.5,)


def test_images_of_another_size_than_a_transformers_are_refused_with_the_fix(file):
    one = network("test_vit", f"model.weights={file}")
    with pytest.raises(UserError, match="built for images of 160×160 .* cannot process 32×32; set model.image_size=32"):
        one(torch.zeros(1, 3, 32, 32))


def test_the_configuration_beside_a_file_says_how_images_were_normalized(file):
    assert network("test_vit", f"model.weights={file}").weights_input[1:] == ((0.5,) * 3, (0.5,) * 3, (160, 160))
    config = {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 2], "input_size": [3, 64, 64]}}
    file.with_name("config.json").write_text(json.dumps(config))
    assert network("test_vit", f"model.weights={file}").weights_input[1:] == ((0.1, 0.2, 0.3), (1, 1, 2), (64, 64))
    assert network("test_vit", f"model.weights={file}", "model.normalization=data").weights_input is None
    assert network("test_vit").weights_input is None
    file.with_name("config.json").write_text("[")
    with pytest.raises(UserError, match="config.json: cannot be read as the configuration of vit.pth"):
        network("test_vit", f"model.weights={file}")


def test_pretrained_weights_are_taken_from_the_cache_of_the_hub(tmp_path, vit, monkeypatch):
    folder = tmp_path / "models--timm--test_vit.r160_in1k"
    for path in ("refs", "snapshots/abc"):
        (folder / path).mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    save_file(vit, folder / "snapshots/abc/model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    loaded = network("test_vit", "model.weights=pretrained", "model.image_size=64", "model.train=probe")
    assert torch.equal(loaded.network.pos_embed, vit["pos_embed"])
    assert loaded.weights_input.name == "test_vit.r160_in1k" and loaded.frozen


def refuse(*arguments):
    raise OSError("Name or service not known")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_without_a_network_one_line_says_where_the_weights_are(library, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained.socket, "getaddrinfo", refuse)
    monkeypatch.setattr(pretrained.urllib.request, "getproxies", dict)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    node = settings(f"model={library}", "model.name=resnet18", "model.weights=pretrained")["model"]
    with pytest.raises(UserError, match="could not be loaded \\(no network\\); download .* https://") as error:
        build(node, channels=3, classes=4)
    assert "set model.weights=FILE" in str(error.value) and "\n" not in str(error.value)


def test_weights_that_timm_does_not_have_are_refused():
    with pytest.raises(UserError, match="timm has no such weights of resnet18; did you mean resnet18\\."):
        network("resnet18.none_in1k")
    name = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(UserError, match=f"timm has none for {name}; did you mean"):
        network(name, "model.weights=pretrained")


def test_torchvisions_transformer_is_loaded_for_another_size(tmp_path):
    from torchvision import models

    def small(size: int) -> nn.Module:
        return models.VisionTransformer(size, 16, 1, 2, 16, 32, num_classes=3)

    with SkipRandomInitialization():
        one = build(settings("model=torchvision", "model.name=vit_b_16")["model"], channels=3, classes=3)
    torch.save(small(64).state_dict(), tmp_path / "w.pth")
    one.network = small(32)
    one.load("vit_b_16", str(tmp_path / "w.pth"), "weights")
    assert one.network.encoder.pos_embedding.shape == (1, 5, 16)
    assert one.weights_input.mean == (0.485, 0.456, 0.406) and one.weights_input.size == (224, 224)


def start(folder: Path, file: Path, *overrides: str) -> Session:
    chosen = ["experiment=quickstart", "steps=2", "logger=jsonl", f"data_dir={folder}", "model=timm"]
    chosen += ["model.name=test_vit", "model.image_size=16", f"model.weights={file}", *overrides]
    with RunDir(folder / "run", "", False) as run_dir:
        return Session(parsed(*chosen), Choices(), run_dir, show_progress=False)


def test_a_run_normalizes_images_as_its_weights_were_trained(tmp_path, file, caplog):
    file.with_name("config.json").write_text('{"pretrained_cfg": {"mean": [0.25, 0.5, 0.75], "std": [0.5, 0.5, 0.5]}}')
    with caplog.at_level(logging.INFO):
        session = start(tmp_path / "a", file)
    images = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    assert session.augment.evaluation(images).unique().tolist() == [1.0]  # (1 − 0.5) / 0.5, the mean over the colors
    assert "images with mean (0.5) and std (0.5), which were of 160×160; these are of 16×16" in caplog.text
    caplog.clear()
    start(tmp_path / "c", file, "augment=svhn", "augment.views.weak.translate.pixels=1")
    assert "the augmentation normalizes by NormalizeEachImage instead" in caplog.text
