"""Every configuration composes and instantiates; bad values fail before torch is imported; digests name what matters."""

import subprocess
import sys

import pytest
import torch
from conftest import CONF, ROOT, options, settings
from hydra.errors import HydraException
from omegaconf import OmegaConf

from meanteacher.config import composing, schema
from meanteacher.config.errors import UserError
from meanteacher.runs.build import build

GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "tuned")
EVERY = [(group, option) for group in GROUPS for option in options(group)]


@pytest.mark.parametrize(("group", "option"), EVERY)
def test_every_option_composes_and_passes_the_check(group, option):
    root = ["dataset.root=somewhere"] if option == "image_folder" else []
    schema.check(settings(f"{group}={option}", *root))


@pytest.mark.parametrize("path", sorted(CONF.glob("tuned/*.yaml")), ids=lambda path: path.stem)
def test_every_tuned_file_belongs_to_an_experiment_and_a_method(path):
    experiment, _, method = path.stem.rpartition("-")
    schema.check(settings(f"experiment={experiment}", f"method={method}"))


@pytest.mark.parametrize("experiment", options("experiment"))
@pytest.mark.parametrize("method", options("method"))
def test_every_experiment_takes_every_method(experiment, method):
    schema.check(settings(f"experiment={experiment}", f"method={method}"))


@pytest.mark.parametrize("group", ["model", "schedule", "augment", "optimizer"])
def test_every_option_instantiates(group):
    for option in options(group):
        given = {"model": {"channels": 3, "classes": 10}, "optimizer": {"module": torch.nn.Linear(2, 2)}}.get(group, {})
        assert build(settings(f"{group}={option}")[group], **given) is not None


def test_several_loggers_at_once():
    assert list(settings("logger=[wandb,tensorboard]")["logger"]) == ["wandb", "tensorboard"]
    assert settings("logger=jsonl")["logger"] == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("label=none", "label=none: should be a valid integer or should be 'all'"),
        ("label=0", "label=0: should be greater than 0"),
        ("steps=1.5", "steps=1.5: should be a valid integer"),
        ("seed=-1", "seed=-1: should be greater than or equal to 0"),
        ("fresh=3", "fresh=3: should be a valid boolean"),
        ("trainer.precision=fp16", "did you mean bf16"),
        ("trainer.labeled_batch=0", "trainer.labeled_batch=0: should be greater than 0"),
        ("dataset.storage=ram", "dataset.storage=ram: should be 'auto', 'device' or 'mmap'"),
        ("method.ema_decay=1", "method.ema_decay=1: should be less than 1"),
        ("method.consistency=mes", "did you mean mse"),
        ("method.consistency_ramp.warmup=2", "method.consistency_ramp.warmup=2: should be less than or equal to 1"),
        ("method.consistency_ramp._target_=meanteacher.optim.schedules.Cosin", "did you mean Cosine"),
        ("method._target_=meanteacher.methods.nothing.X", "there is no Python module"),
        ("optimizer.nesterov=1", "optimizer.nesterov=1: should be a valid boolean"),
        (
            "augment.views.weak.flip.probability=2",
            "augment.views.weak.flip.probability=2: should be less than or equal to 1",
        ),
        ("model.activation=relu", "did you mean leaky_relu"),
        (
            "method=cct method.perturbations=[noise,vta]",
            "method.perturbations=vta: should be 'noise', 'drop', 'dropout', 'cutout' or 'vat'; did you mean vat?",
        ),
        ("method=cct method.perturbations=[]", "method.perturbations=[]: List should have at least 1 item"),
    ],
)
def test_bad_values_are_named_in_one_line(override, words):
    with pytest.raises(UserError) as caught:
        schema.check(settings(*override.split()))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_yaml_that_does_not_fit_its_constructor_is_named():
    bad = settings()
    del bad["method"]["ema_decay"]
    with pytest.raises(UserError, match="needs ema_decay"):
        schema.check(bad)
    with pytest.raises(UserError, match="lamda.*takes no such value"):
        schema.check(settings() | {"method": settings()["method"] | {"lamda": 3}})


def test_unknown_keys_do_not_compose():
    with pytest.raises(HydraException):
        settings("method.lamda=3")


def test_the_check_needs_no_torch():
    code = "import sys; sys.argv = ['run.py']; import run; from meanteacher import config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_digest_holds_what_determines_the_result_and_nothing_else():
    first = schema.digest(settings())
    same = [
        "output=elsewhere",
        "data_dir=there",
        "logger=tensorboard",
        "trainer.device=cpu",
        "trainer.log_every=7",
        "fresh=true",
    ]
    same += ["dataset.storage=mmap", "method.consistency_weight=10", "split_seed=0"]
    for override in same:
        assert schema.digest(settings(override)) == first, override
    for override in (
        "seed=1",
        "label=250",
        "steps=7",
        "eval_every=7",
        "validation=5",
        "split_seed=1",
        "method=supervised",
    ):
        assert schema.digest(settings(override)) != first, override
    for override in (
        "trainer.precision=fp32",
        "method.ema_decay=0.9",
        "dataset.labeled_in_unlabeled=false",
        "dataset=svhn",
    ):
        assert schema.digest(settings(override)) != first, override


def test_the_digest_holds_the_split_files_content(tmp_path):
    (tmp_path / "a").write_text("1")
    first = schema.digest(settings(f"split={tmp_path}/a"))
    (tmp_path / "b").write_text("1")
    assert schema.digest(settings(f"split={tmp_path}/b")) == first
    (tmp_path / "b").write_text("2")
    assert schema.digest(settings(f"split={tmp_path}/b")) != first
    with pytest.raises(UserError, match="cannot be read"):
        schema.digest(settings(f"split={tmp_path}/c"))


def folder_of(settings: dict, sweeper: str = "grid") -> str:
    choices = {"dataset": "cifar10", "method": "mean_teacher", "hydra/sweeper": sweeper}
    return composing.run_folder(_root_=OmegaConf.create(settings | {"hydra": {"runtime": {"choices": choices}}}))


def test_a_run_folder_is_named_by_what_determines_the_result():
    one = settings("label=250", "seed=3")
    assert folder_of(one) == f"cifar10/mean_teacher/label-250/seed-3/{schema.digest(one)}"


def test_sweepers_that_optimize_need_validation_images():
    with pytest.raises(UserError, match="hydra/sweeper=optuna needs validation images"):
        folder_of(settings(), "optuna")
    assert folder_of(settings("validation=1000"), "optuna")
