"""Combinations of method, network, augmentation and images that cannot work are refused in one line."""

import copy
import functools

import pytest
import torch
from conftest import options, parsed, settings
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices, Settings
from meanteacher.config.trust import trust_packages
from meanteacher.config.types import PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.base import Method
from meanteacher.methods.combinations import check_combination
from meanteacher.models import Network
from meanteacher.runs.build import check_before_loading, construct_method
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session

trust_packages(__name__)

FIXMATCH_FAMILY = {
    "adamatch",
    "crmatch",
    "dash",
    "defixmatch",
    "fixmatch",
    "flexmatch",
    "freematch",
    "softmatch",
    "uda",
}
OTHERS = {
    "comatch",
    "mean_teacher_strong",
    "meta_pseudo_labels",
    "noisy_student",
    "regmixmatch",
    "remixmatch",
    "simmatch",
}
NEEDED = {name: "strong" for name in FIXMATCH_FAMILY | OTHERS} | {"sequencematch": "medium"}
"""The view beside `weak` that a method asks for first."""
NEED_FEATURES = ("cct", "comatch", "crmatch", "mean_teacher_dual", "remixmatch", "simmatch")
VIT = ("model=timm", "model.name=vit_tiny_patch16_224", "model.image_size=32")


@functools.cache
def compose_method(name: str) -> dict:
    return settings(f"method={name}")["method"]


def construct(*overrides: str) -> Method:
    return construct_method(parsed(*overrides), channels=3, classes=10, images=20)


def train_one_step(method: Method, size: int) -> Tensor:
    """The loss of one step on 4 labeled and 6 unlabeled random images; every gradient is checked to be finite."""
    method.train()
    labeled = Labeled(
        torch.arange(4), tuple(torch.randn(4, 3, size, size) for _ in method.views.labeled), torch.arange(4)
    )
    unlabeled = Unlabeled(torch.arange(6), tuple(torch.randn(6, 3, size, size) for _ in method.views.unlabeled))
    loss = method.training_step(labeled, unlabeled, torch.tensor(5.0)).loss
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
    return loss


@pytest.mark.parametrize("experiment", options("experiment"))
def test_a_recipe_refuses_exactly_the_methods_whose_views_it_lacks(experiment):
    recipe = settings(f"experiment={experiment}")
    if "width" in recipe["model"]:
        recipe["model"]["width"] = 8 if "shake" in recipe["model"]["_target_"] else 1
    views = recipe["augment"]["views"]
    for name in options("method"):
        combined = Settings.parse(recipe | {"method": compose_method(name)})
        if NEEDED.get(name, "weak") not in views:
            with pytest.raises(UserError, match=f"needs the augmented view '{NEEDED[name]}'.* augment=standard has it"):
                check_before_loading(combined, views)
        else:
            check_before_loading(combined, views)
    combined = Settings.parse(recipe | {"method": compose_method("supervised")})
    check_combination(construct_method(combined, channels=3, classes=10, images=20), views, (3, 32, 32))


def test_the_check_draws_no_random_numbers():
    before = torch.get_rng_state()
    chosen = parsed("method=mean_teacher", "model=convnet13")
    check_before_loading(chosen, ["weak"])
    assert torch.equal(torch.get_rng_state(), before)
    method = construct_method(chosen, channels=3, classes=10, images=20)
    before, state = torch.get_rng_state(), copy.deepcopy(method.state_dict())
    check_combination(method, ["weak"], (3, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert all(module.training for module in method.student.modules())


def start_session(folder, *overrides: str) -> None:
    with RunDir(folder / "run", "", False) as run_dir:
        Session(parsed("logger=jsonl", f"data_dir={folder}", *overrides), Choices(), run_dir, show_progress=False)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=fixmatch", "augment=none"], "FixMatch needs the augmented view 'strong'"),
        (["model.depth=27"], "model.depth=27: "),
        (["model=torchvision", "model.name=resnt18"], "model.name=resnt18: .*; did you mean resnet18\\?"),
        (["model=torchvision", "model.name=vit_b_32", "method=cct"], "CCT needs the feature map"),
    ],
)
def test_a_combination_is_refused_before_images_are_loaded(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr("torchvision.datasets.CIFAR10", None)
    with pytest.raises(UserError, match=message) as error:
        start_session(tmp_path, "dataset=cifar10", *overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=convnet13", "dataset.image_size=8"], "ConvNet13 cannot process images of 1×8×8 \\("),
        (["model=torchvision"], "model=torchvision needs images with 3 channels, but these have 1"),
    ],
)
def test_images_that_the_network_cannot_process_are_refused_after_loading(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        start_session(tmp_path, "experiment=quickstart", *overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["remixmatch", "mean_teacher_dual", "mean_teacher"])
def test_a_vision_transformer_of_timm_trains(method):
    pytest.importorskip("timm")
    built = construct(f"method={method}", *VIT)
    check_combination(built, ["weak", "strong"], (3, 32, 32))
    train_one_step(built, 32)


def test_a_vision_transformer_of_timm_is_refused_by_cct_and_for_images_of_another_size():
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="CCT needs the feature map"):
        check_before_loading(parsed("method=cct", *VIT), ["weak"])
    with pytest.raises(UserError, match="is built for images of 32×32 pixels and .* set model.image_size=40"):
        check_combination(construct("method=supervised", *VIT), ["weak"], (3, 40, 40))


@functools.cache
def compose_tiny(name: str) -> Settings:
    return parsed("model=timm", f"model.name={name}", *(["model.image_size=32"] if "vit" in name else []))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", options("method"))
def test_every_method_trains_a_transformer_and_a_residual_network_of_timm(name, precision):
    pytest.importorskip("timm")
    for network in ("test_vit", "test_resnet") if precision == "fp32" else ("test_vit",):
        chosen = compose_tiny(network).replace({"method": compose_method(name)})
        if network == "test_vit" and name in ("cct", "crmatch"):
            with pytest.raises(UserError, match="needs the feature map .* of a convolutional network"):
                check_before_loading(chosen, ["weak", "medium", "strong"])
            continue
        method = construct_method(chosen, channels=3, classes=10, images=20)
        check_combination(method, ["weak", "medium", "strong"], (3, 32, 32))
        at_start = {key: list(copy.deepcopy(model).parameters()) for key, model in method.eval_models().items()}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            assert train_one_step(method, 32).dtype == torch.float32
        with torch.no_grad():
            torch._foreach_add_(list(method.student.parameters()), 1.0)
        method.after_step(torch.tensor(5.0))
        for key, model in method.eval_models().items():
            for old, new in zip(at_start[key], model.parameters(), strict=True):
                assert new.isfinite().all() and not torch.equal(old, new), "the teacher follows the student"


@pytest.mark.parametrize("method", NEED_FEATURES)
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_convolutional_network_of_a_library_trains(method, library):
    pytest.importorskip(library)
    built = construct(f"method={method}", f"model={library}", "model.name=resnet18")
    check_combination(built, ["weak", "strong"], (3, 32, 32))
    train_one_step(built, 32)


def test_a_vision_transformer_of_torchvision_works_with_a_second_output():
    built = construct("method=mean_teacher_dual", "model=torchvision", "model.name=vit_b_32", "model.image_size=32")
    check_combination(built, ["weak"], (3, 32, 32))
    with pytest.raises(UserError, match="model.image_size=32: "):
        check_combination(built, ["weak"], (3, 64, 64))


class GrayOnly(Network):
    """A network without features that accepts gray images only."""

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt):
        super().__init__()
        if channels != 1:
            raise UserError("gray images only")
        self.classifier = torch.nn.Linear(1, classes)

    def forward(self, images):
        return self.classifier(images.mean((2, 3)))


def test_a_network_without_features_works_with_the_methods_that_need_none():
    gray = parsed().replace({"model": {"_target_": f"{__name__}.GrayOnly"}})
    check_before_loading(gray, ["weak"])
    for name in NEED_FEATURES:
        with pytest.raises(UserError, match="needs a network with features, which GrayOnly does not have"):
            construct_method(gray.replace({"method": compose_method(name)}), channels=1, classes=10, images=20)


class ForwardOnly(Network):
    """A network that implements `forward` alone."""

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt):
        super().__init__()
        self.feature_channels = channels
        self.classifier = torch.nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images.mean((2, 3)))


@pytest.mark.parametrize("name", options("method"))
def test_methods_that_need_features_refuse_a_network_without_them(name):
    recipe = settings(f"method={name}") | {"model": {"_target_": f"{__name__}.ForwardOnly"}}
    combined = Settings.parse(settings()).replace(recipe)
    if name in NEED_FEATURES:
        with pytest.raises(UserError, match="needs a network that implements `features`, which ForwardOnly does not"):
            check_before_loading(combined, ("weak", "medium", "strong"))
    else:
        check_before_loading(combined, ("weak", "medium", "strong"))
