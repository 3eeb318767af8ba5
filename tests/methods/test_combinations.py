"""Combinations of method, network, augmentation and image size that cannot train are refused, and all others train."""

import functools

import pytest
import torch
from conftest import options, parsed
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.compatibility import check_combination
from meanteacher.models.base import Network
from meanteacher.models.dual_output import DualOutput
from meanteacher.runs.build import construct_method

SHAPES = {"digits": (1, 8, 8)}
"""Image shapes of data sets; all others of the recipes have color images of 32×32."""

FEWER_LAYERS = {"WideResNet": {"depth": 10}, "ShakeShake": {"depth": 8, "width": 8}}

recipe_settings = functools.cache(lambda recipe: parsed(f"experiment={recipe}"))
method_node = functools.cache(lambda method: parsed(f"method={method}").method)


def build(settings, shape, device="meta", **changes):
    with torch.device(device):
        return construct_method(settings.replace(changes), channels=shape[0], classes=10, images=100)


def check(settings, shape, name="m", **changes):
    """Both checks of a run: before and after the data set is loaded."""
    choices, views = Choices(method=name, model="net", augment="a"), settings.augment["views"]
    for image_shape in (None, shape):
        check_combination(build(settings, shape, **changes), choices, views=views, image_shape=image_shape)


def take_step(method, shape):
    def views(names, count):
        return tuple(torch.randn(count, *shape) for _ in names)

    labeled = Labeled(torch.arange(2), views(method.views.labeled, 2), torch.arange(2))
    unlabeled = Unlabeled(torch.arange(3), views(method.views.unlabeled, 3))
    method.train().training_step(labeled, unlabeled, torch.tensor(1.0)).loss.backward()


def different(recipes):
    """The recipes that differ in what the check sees, in the order in which they are listed."""
    seen = {}
    for recipe in recipes:
        settings = recipe_settings(recipe)
        seen.setdefault((str(settings.model), tuple(settings.augment["views"]), settings.dataset.name), recipe)
    return seen.values()


@pytest.mark.parametrize("method", options("method"))
def test_recipes_whose_augmentation_lacks_a_view_are_refused_and_all_others_train(method):
    for recipe in different(options("experiment")):
        settings = recipe_settings(recipe)
        name = settings.model["_target_"].rpartition(".")[2]
        model = settings.model | FEWER_LAYERS.get(name, {})
        shape = SHAPES.get(settings.dataset.name, (3, 32, 32))
        changes = {"method": method_node(method), "model": model}
        built = build(settings, shape, "cpu", **changes)
        if {*built.views.labeled, *built.views.unlabeled} <= set(settings.augment["views"]):
            check(settings, shape, **changes)
            take_step(built, shape)
        else:
            with pytest.raises(UserError, match="needs the view strong, .*use augment=cutout or digits or standard"):
                check(settings, shape, **changes)


@pytest.mark.parametrize("model", options("model"))
def test_every_network_trains_with_every_method_that_needs_features(model):
    if model == "timm":
        pytest.importorskip("timm")
    settings, shape = parsed(f"model={model}"), (3, 32, 32)
    small = settings.model | FEWER_LAYERS.get(settings.model["_target_"].rpartition(".")[2], {})
    if model == "wrn_37_2":
        small["depth"] = 13
    for method in ("cct", "remixmatch", "mean_teacher_dual"):
        check(settings, shape, method=method_node(method), model=small)


def library(model, name):
    if model == "timm":
        pytest.importorskip("timm")
    return parsed(f"model={model}", f"model.name={name}")


@pytest.mark.parametrize(
    ("model", "name"),
    [("timm", "vit_tiny_patch16_224"), ("timm", "swin_tiny_patch4_window7_224"), ("torchvision", "vit_b_32")],
)
def test_transformers_train_with_methods_that_need_features_but_no_map(model, name):
    settings, shape = library(model, name), (3, 224, 224)
    for method in ("remixmatch", "mean_teacher_dual"):
        check(settings, shape, method=method_node(method))
    with pytest.raises(
        UserError, match=r"method=m needs a feature map \[B, \d+, h, w\]; the features of model=net are"
    ):
        check(settings, shape, method=method_node("cct"))


def test_a_missing_view_is_refused_before_the_data_set_is_known():
    settings = parsed("method=fixmatch", "augment=svhn")
    method = build(settings, (3, 32, 32))
    choices = Choices(method="fixmatch", model="wrn_28_2", augment="svhn")
    with pytest.raises(UserError) as caught:
        check_combination(method, choices, views=["weak"], image_shape=None)
    assert str(caught.value) == (
        "method=fixmatch needs the view strong, which augment=svhn does not have; "
        "use augment=cutout or digits or standard"
    )
    method.views = method.views._replace(unlabeled=("sideways",))
    with pytest.raises(UserError, match="needs the view sideways, .*; add it to the views of the yaml file"):
        check_combination(method, choices, views=["weak"], image_shape=None)


@pytest.mark.parametrize(
    ("overrides", "shape", "message"),
    [
        (["model=convnet13"], (1, 4, 4), "model=net cannot process images of 1×4×4: .*"),
        (["method=remixmatch"], (3, 8, 12), "method=m needs square images; these are 8×12"),
        (["model=wrn_10_1"], (3, 8, 12), None),
    ],
)
def test_image_shapes_that_a_network_or_method_cannot_process_are_refused(overrides, shape, message):
    settings = parsed(*overrides)
    if message is None:
        check(settings, shape)
        return
    with pytest.raises(UserError, match=f"^{message}$"):
        check(settings, shape)


class WithoutFeatures(Network):
    """A network that overrides `forward` alone."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return self.outputs(images)


class WrongChannels(WithoutFeatures):
    feature_channels = 5

    def features(self, images):
        return images

    def head(self, features):
        return features.mean((2, 3))


@pytest.mark.parametrize(
    ("method", "student", "message"),
    [
        ("cct", WithoutFeatures(None), "needs a network that defines features and head"),
        ("mean_teacher_dual", WithoutFeatures(None), "needs a network that defines features and head"),
        ("supervised", WithoutFeatures(lambda images: (images, images)), "does not return logits"),
        ("supervised", nn.Flatten(0), "does not return logits"),
        ("remixmatch", WrongChannels(None), "not pooled to feature_channels=5"),
        ("supervised", nn.Flatten(), None),
    ],
)
def test_networks_that_do_not_keep_the_contract_are_refused(method, student, message):
    student.feature_channels = 5
    settings = parsed(f"method={method}")
    built = build(settings, (3, 8, 8), model=parsed("model=wrn_10_1").model)
    built.student = student
    if method == "mean_teacher_dual":
        built.student = DualOutput(student, 10)
    arguments = {"views": ["weak", "strong"], "image_shape": (3, 8, 8)}
    if message is None:
        check_combination(built, Choices(), **arguments)
        return
    with pytest.raises(UserError, match=message):
        check_combination(built, Choices(), **arguments)


def test_checking_changes_neither_the_method_nor_the_random_generator():
    settings = parsed("method=mean_teacher_dual", "model=wrn_10_1", "model.dropout=0.5")
    method = build(settings, (3, 8, 8), "cpu")
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    state = torch.get_rng_state()
    check_combination(method, Choices(), views=["weak", "strong"], image_shape=(3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
