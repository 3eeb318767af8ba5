"""Configurations compose and instantiate; bad values fail before torch is imported."""

import subprocess
import sys

import pytest
from conftest import CONF, ROOT, command, options, parsed, settings
from hydra.errors import HydraException
from omegaconf import OmegaConf

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.runs.build import build

GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "tuned")
EVERY = [(group, option) for group in GROUPS for option in options(group)]


@pytest.mark.parametrize(("group", "option"), EVERY)
def test_every_option_composes_and_passes_the_check(group, option):
    location = {"image_folder": "root", "table": "file", "huggingface": "path"}.get(option)
    Settings.parse(settings(f"{group}={option}", *([f"dataset.{location}=somewhere"] if location else [])))


TUNED = [(path.parent.name, path.stem) for path in sorted(CONF.glob("tuned/*/*.yaml"))]


@pytest.mark.parametrize(("experiment", "method"), TUNED)
def test_tuned_values_are_valid(experiment, method):
    assert experiment in options("experiment") and method in options("method")
    Settings.parse(settings(f"experiment={experiment}", f"method={method}"))


def test_tuned_files_hold_only_values_of_the_recipe_and_override_nothing_else():
    for path in CONF.glob("tuned/*/*.yaml"):
        assert set(OmegaConf.load(path)) <= {"method", "optimizer"}, path


PAIRS = [
    (experiment, method)
    for row, experiment in enumerate(options("experiment"))
    for column, method in enumerate(options("method"))
    if experiment == "quickstart" or (row + column) % 9 == 0
]
"""The quickstart, which has values for each method, with all methods; other experiments with every ninth method."""


@pytest.mark.parametrize(("experiment", "method"), PAIRS)
def test_experiments_take_methods_of_others(experiment, method):
    Settings.parse(settings(f"experiment={experiment}", f"method={method}"))


@pytest.mark.parametrize("group", ["model", "schedule", "augment"])
def test_every_option_instantiates(group):
    for option in options(group):
        given = {"model": {"channels": 3, "classes": 10}}.get(group, {})
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
        ("unlabeled=0", "unlabeled=0: should be greater than 0"),
        ("unlabeled=100", "unlabeled=100: a step takes 192 unlabeled images; use at least as many"),
        ("unlabeled=500 split=a.txt", "unlabeled and split exclude each other"),
        ("mismatch=0 split=a.txt", "mismatch and split exclude each other"),
        ("mismatch=1.5", "mismatch=1.5: should be less than or equal to 1"),
        ("imbalance=0.5", "imbalance=0.5: should be greater than or equal to 1"),
        ("unlabeled_imbalance=inf", "unlabeled_imbalance=inf: should be a finite number"),
        ("fresh=3", "fresh=3: should be a valid boolean"),
        ("trainer.precision=fp16", "did you mean bf16"),
        ("trainer.labeled_batch=0", "trainer.labeled_batch=0: should be greater than 0"),
        ("dataset.storage=ram", "dataset.storage=ram: should be 'auto', 'device' or 'mmap'"),
        ("method.teacher.decay=1", "method.teacher.decay=1: should be less than 1"),
        ("method.consistency=mes", "did you mean mse"),
        ("method.consistency_ramp.warmup=2", "method.consistency_ramp.warmup=2: should be less than or equal to 1"),
        ("method.consistency_ramp._target_=meanteacher.optim.Cosin", "did you mean Cosine"),
        ("method._target_=meanteacher.methods.nothing.X", "there is no Python module"),
        ("optimizer.nesterov=1", "optimizer.nesterov=1: should be a valid boolean"),
        ("optimizer.lr=-1", "optimizer.lr=-1: should be greater than 0"),
        ("optimizer.lr=inf", "optimizer.lr=inf: should be a finite number"),
        ("optimizer.lr=fast", "optimizer.lr=fast: should be a valid number"),
        ("optimizer.momentum=1", "optimizer.momentum=1: should be less than 1"),
        ("optimizer.momentum=nan", "optimizer.momentum=nan: should be"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1: should be greater than or equal to 0"),
        ("optimizer.weight_decay=inf", "optimizer.weight_decay=inf: should be a finite number"),
        ("optimizer.decay_norm_and_bias=1", "optimizer.decay_norm_and_bias=1: should be a valid boolean"),
        ("optimizer=adam optimizer.betas=[0.9,1]", "optimizer.betas=1: should be less than 1"),
        ("optimizer=adamw optimizer.betas=[0.9]", "optimizer.betas=[0.9]: List should have at least 2 items"),
        ("optimizer.momentum=0", "optimizer.nesterov=true needs momentum above 0"),
        ("+optimizer.dampening=0.5", "optimizer.nesterov=true needs momentum above 0 and no dampening"),
        ("+optimizer.fused=3", "optimizer.fused=3: should be a valid boolean"),
        ("+optimizer.momentun=0.5", "torch.optim.SGD takes no such value; did you mean momentum"),
        ("optimizer=adam +optimizer.momentum=0.9", "optimizer.momentum: torch.optim.Adam takes no such value"),
        ("optimizer._target_=torch.optim.SDG", "torch.optim defines no SDG; did you mean SGD"),
        ("trainer.checkpoint_minutes=inf", "trainer.checkpoint_minutes=inf: should be a finite number"),
        ("method.consistency_weight=inf", "method.consistency_weight=inf: should be a finite number"),
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
        Settings.parse(settings(*override.split()))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_yaml_that_does_not_fit_its_constructor_is_named():
    bad = settings()
    del bad["method"]["teacher"]["decay"]
    with pytest.raises(
        UserError,
        match=r"method.teacher.decay: this key is missing in the yaml file of the chosen method \(.*Teacher needs it\)",
    ):
        Settings.parse(bad)
    with pytest.raises(UserError, match="lamda.*takes no such value"):
        Settings.parse(settings() | {"method": settings()["method"] | {"lamda": 3}})


def test_a_partial_node_may_leave_out_arguments_but_not_the_keys_of_the_run():
    node = settings()["optimizer"]
    parse_optimizer({key: value for key, value in node.items() if key not in ("momentum", "weight_decay")})
    for key in ("lr", "decay_norm_and_bias"):
        with pytest.raises(
            UserError, match=f"optimizer.{key}: this key is missing in the yaml file of the chosen optim"
        ):
            parse_optimizer({name: value for name, value in node.items() if name != key})
    with pytest.raises(UserError, match="add `_partial_: true` to the yaml file"):
        parse_optimizer({name: value for name, value in node.items() if name != "_partial_"})


def parse_optimizer(node: dict) -> Settings:
    return Settings.parse(settings() | {"optimizer": node})


def test_unknown_keys_do_not_compose():
    with pytest.raises(HydraException):
        settings("method.lamda=3")


def test_the_check_needs_no_torch():
    code = "import sys, meanteacher.runs.train; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_settings_are_frozen_and_restore_the_composed_configuration():
    frozen = parsed("experiment=quickstart")
    assert frozen.as_dict() == settings("experiment=quickstart") and frozen.trainer.labeled_batch == 16
    with pytest.raises(ValueError):
        frozen.label = 3
    with pytest.raises(ValueError):
        frozen.trainer.labeled_batch = 3


def test_missing_and_unknown_keys_are_named():
    incomplete = settings()
    del incomplete["dataset"]["storage"]
    with pytest.raises(
        UserError, match="dataset.storage: this key is missing in the yaml file of the chosen dataset; add it"
    ):
        Settings.parse(incomplete)
    with pytest.raises(UserError, match="stepss: there is no such key"):
        Settings.parse(settings() | {"stepss": 3})


def test_a_recipes_method_values_belong_to_its_own_method():
    recipe = "experiment=torchssl_mean_teacher"
    assert settings(recipe)["method"]["consistency_weight"] == 50
    assert settings(recipe, "method=pi_model")["method"] == settings("method=pi_model", "steps=1048576")["method"]
    changed = settings(recipe, "method=pi_model", "method.consistency_weight=3")["method"]
    assert changed["consistency_weight"] == 3
    with pytest.raises(HydraException):
        settings(recipe, "method=supervised", "method.consistency_weight=3")


def test_another_option_takes_the_keys_of_a_recipe_that_it_has():
    quickstart = settings("experiment=quickstart", "model=timm")["model"]
    assert quickstart == settings("model=timm")["model"]
    assert settings("experiment=quickstart", "model=wrn_16_2")["model"]["bn_momentum"] == 0.1
    optimizer = settings("experiment=fixmatch", "optimizer=adam", "optimizer.lr=0.001")["optimizer"]
    assert "nesterov" not in optimizer and optimizer["lr"] == 0.001
    Settings.parse(settings("experiment=paper_convnet_cifar10", "schedule=cosine"))


def test_a_tuned_file_named_after_no_method_is_refused(tmp_path):
    (tmp_path / "tuned/quickstart").mkdir(parents=True)
    (tmp_path / "tuned/quickstart/mean_techer.yaml").write_text("# @package _global_\n")
    done = command(f"--config-dir={tmp_path}", "experiment=quickstart", cwd=tmp_path)
    assert (
        done.returncode == 1 and "mean_techer.yaml: no method has this name; did you mean mean_teacher?" in done.stderr
    )


def test_a_configuration_of_ones_own_builds_on_ours(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - config\n  - override experiment: quickstart\n  - _self_\nlabel: 40\n"
    )
    done = command(f"--config-dir={tmp_path}", "--config-name=mine", "--cfg=job", cwd=tmp_path)
    assert done.returncode == 0 and "label: 40" in done.stdout, done.stderr
