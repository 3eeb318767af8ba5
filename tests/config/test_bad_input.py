"""Bad input of more than a hundred kinds: each gets one line that says what is wrong and where, and writes nothing.

Images that cannot be read are in tests/data/test_folder_errors.py, files of a run folder in tests/runs/test_faults.py
and tests/data/test_stored_split.py, and code that a configuration may not name in test_trust.py.
"""

import copy
import functools

import pytest
import yaml
from conftest import TINY, settings
from hydra import compose, initialize_config_dir

from meanteacher.config import cli
from meanteacher.config.composing import compose_run
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.config.locations import CONF
from meanteacher.config.settings import Settings
from meanteacher.methods.combinations import check_combination
from meanteacher.runs.build import build, build_method, check_before_loading, load_data, make_split
from meanteacher.runs.train import check_arguments
from meanteacher.training.memory import check_memory

INTEGER, TEXT = "should be a valid integer", "should be a valid string"
POSITIVE, FINITE = "should be greater than 0", "should be a finite number"

VALUES = {
    "seed=18446744073709551616": "seed=18446744073709551616: should be less than 9223372036854775808",
    "seed=-1": "seed=-1: should be greater than or equal to 0",
    "seed=1000.0": f"seed=1000.0: {INTEGER}",
    "seed=true": f"seed=True: {INTEGER}",
    "seed=null": f"seed=None: {INTEGER}",
    "seed=[0, 1]": f"seed=[0, 1]: {INTEGER}",
    "seed='0'": f"seed=0: {INTEGER}",
    "split_seed=-1": "split_seed=-1",
    "split_seed=.nan": "split_seed=nan",
    "label=0": f"label=0: {POSITIVE}",
    "label=-5": f"label=-5: {POSITIVE}",
    "label=9223372036854775808": "label=9223372036854775808: should be less than",
    "label=.inf": f"label=inf: {INTEGER} or should be 'all'",
    "label=''": f"label=: {INTEGER}",
    "label=ALL": f"label=ALL: {INTEGER}",
    "label=😀": f"label=😀: {INTEGER}",
    "label=[10]": "label=[10]",
    "label={a: 1}": "label={'a': 1}",
    "steps=0": f"steps=0: {POSITIVE}",
    "steps=1.5": f"steps=1.5: {INTEGER}",
    "steps=1000000.0": f"steps=1000000.0: {INTEGER}",
    "steps=99999999999999999999999": "steps=99999999999999999999999: should be less than",
    "steps=all": f"steps=all: {INTEGER}",
    "eval_every=0": f"eval_every=0: {POSITIVE}",
    "eval_every=99999999999999999999999": "should be less than",
    "validation=-1": "validation=-1: should be greater than or equal to 0",
    "validation=0.1": f"validation=0.1: {INTEGER}",
    "split=''": "split=: String should have at least 1 character",
    "split=3": f"split=3: {TEXT}",
    "output=''": "output=: String should have at least 1 character",
    "output=null": f"output=None: {TEXT}",
    "data_dir=''": "data_dir=: String should have at least 1 character",
    "data_dir=[a]": f"data_dir=['a']: {TEXT}",
    "fresh='yes'": "fresh=yes: should be a valid boolean",
    "fresh=1": "fresh=1: should be a valid boolean",
    "unlabeled=0": f"unlabeled=0: {POSITIVE}",
    "unlabeled=5": "unlabeled=5: a step takes 8 unlabeled images; use at least as many",
    "unlabeled=1000000000.0": f"unlabeled=1000000000.0: {INTEGER}",
    "mismatch=-0.1": "mismatch=-0.1: should be greater than or equal to 0",
    "mismatch=1.5": "mismatch=1.5: should be less than or equal to 1",
    "mismatch=.nan": "mismatch=nan",
    "imbalance=0.5": "imbalance=0.5: should be greater than or equal to 1",
    "imbalance=1.0e+308": "imbalance=1e+308: should be less than or equal to 1000000000",
    "imbalance=.inf": f"imbalance=inf: {FINITE}",
    "unlabeled_imbalance=.nan": "unlabeled_imbalance=nan",
    "dataset.image_size=0": "dataset.image_size=0: should be greater than or equal to 1",
    "dataset.image_size=20000": "dataset.image_size=20000: should be less than or equal to 512",
    "dataset.image_size=8.0": f"dataset.image_size=8.0: {INTEGER}",
    "dataset.name=''": "dataset.name=: String should have at least 1 character",
    "dataset.storage=ram": "dataset.storage=ram: should be 'auto', 'device' or 'mmap'",
    "dataset.labeled_in_unlabeled=maybe": "dataset.labeled_in_unlabeled=maybe: should be a valid boolean",
    "dataset.nothing=1": "dataset.nothing: meanteacher.data.datasets.digits takes no such value",
    "dataset=null": "dataset=None",
    "dataset=3": "dataset=3",
    "model=null": "model=None: should be a valid dictionary",
    "method=text": "method=text: should be a valid dictionary",
    "augment=[]": "augment=[]: should be a valid dictionary",
    "logger=3": "logger=3: should be a valid dictionary",
    "logger.mine=text": "logger.mine=text: should be a valid dictionary",
    "trainer=null": "trainer=None",
    "model.width=0": f"model.width=0: {POSITIVE}",
    "model.width=-3": f"model.width=-3: {POSITIVE}",
    "model.dropout=1": "model.dropout=1: should be less than 1",
    "model.dropout=.nan": "model.dropout=nan",
    "model.bn_momentum=2": "model.bn_momentum=2: should be less than or equal to 1",
    "model.activation=relu": "did you mean leaky_relu",
    "model._target_=3": "model._target_=3: must be a name",
    "model._target_=null": "model._target_=None: must be a name",
    "model._target_=''": "model._target_=: must be a name",
    "model._target_=..": "model._target_=..: must be a name",
    "model._target_=meanteacher": "model._target_=meanteacher: a configuration may not run code of meanteacher",
    "model._target_=meanteacher.models.Nothing": "meanteacher.models defines no Nothing",
    "model._target_=nothing.at.All": "add 'trusted_packages=[nothing]' to the command",
    "model._args_=[1]": "model._args_: meanteacher.models.wide_resnet.WideResNet takes no such value",
    "method.teacher=null": "method.teacher=null: must be a mapping with a _target_",
    "method.teacher.decay=1": "method.teacher.decay=1: should be less than 1",
    "method.teacher.decay=.nan": "method.teacher.decay=nan",
    "method.teacher.bn=both": "method.teacher.bn=both: should be 'own', 'copy' or 'average'",
    "method.consistency=mes": "did you mean mse",
    "method.consistency_weight=-1": "method.consistency_weight=-1: should be greater than or equal to 0",
    "method.consistency_weight=.inf": f"method.consistency_weight=inf: {FINITE}",
    "method.consistency_ramp.warmup=2": "method.consistency_ramp.warmup=2: should be less than or equal to 1",
    "method.consistency_ramp.steps=0": "method.consistency_ramp.steps=0",
    "method.lamda=3": "method.lamda: meanteacher.methods.mean_teacher.MeanTeacher takes no such value",
    "schedule.steps=0": f"schedule.steps=0: {POSITIVE}",
    "augment.views=null": "augment.views=null: must be a mapping",
    "augment.views.weak.translate.pixels=-1": "augment.views.weak.translate.pixels=-1",
    "augment.normalize=null": "augment.normalize=null: must be a mapping",
    "augment.normalize_first=1": "augment.normalize_first=1: should be a valid boolean",
    "optimizer.lr=0": f"optimizer.lr=0: {POSITIVE}",
    "optimizer.lr=.inf": f"optimizer.lr=inf: {FINITE}",
    "optimizer.lr=.nan": f"optimizer.lr=nan: {FINITE}",
    "optimizer.lr=fast": "optimizer.lr=fast: should be a valid number",
    "optimizer.momentum=1": "optimizer.momentum=1: should be less than 1",
    "optimizer.momentum=null": "optimizer.momentum=None: should be a valid number",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1: should be greater than or equal to 0",
    "optimizer._partial_=false": "optimizer: add `_partial_: true` to the yaml file",
    "trainer.device=cuda:7": "trainer.device=cuda:7: should be 'auto', 'free', 'cuda', 'mps' or 'cpu'",
    "trainer.threads=0": f"trainer.threads=0: {POSITIVE}",
    "trainer.threads=100000": "trainer.threads=100000: should be less than or equal to 1024",
    "trainer.precision=fp16": "did you mean bf16",
    "trainer.compile=maybe": "trainer.compile=maybe: should be 'auto', 'always' or 'never'",
    "trainer.labeled_batch=0": f"trainer.labeled_batch=0: {POSITIVE}",
    "trainer.unlabeled_batch=-1": f"trainer.unlabeled_batch=-1: {POSITIVE}",
    "trainer.eval_batch=1000.0": f"trainer.eval_batch=1000.0: {INTEGER}",
    "trainer.average_decay=1": "trainer.average_decay=1: should be less than 1",
    "trainer.log_every=0": f"trainer.log_every=0: {POSITIVE}",
    "trainer.checkpoint_minutes=0": f"trainer.checkpoint_minutes=0: {POSITIVE}",
    "trainer.checkpoint_minutes=.inf": f"trainer.checkpoint_minutes=inf: {FINITE}",
    "trainer.nothing=1": "trainer.nothing: there is no such key",
    "nothing=1": "nothing: there is no such key",
}


@functools.cache
def base() -> dict:
    return settings(*TINY)


def changed(override: str) -> dict:
    """The composed configuration with one value replaced; it is written as in a yaml file."""
    key, _, value = override.partition("=")
    config = copy.deepcopy(base())
    *parents, name = key.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {})
    node[name] = yaml.safe_load(value)
    return config


@pytest.mark.parametrize("override", VALUES)
def test_a_bad_value_is_named_in_one_line(override):
    with pytest.raises(UserError) as caught:
        Settings.parse(changed(override))
    assert VALUES[override] in str(caught.value) and "\n" not in str(caught.value)


COMMANDS = {
    "labels=10": "labels: there is no such key; did you mean label?",
    "hydra.nothing=1": "hydra.nothing: there is no such key",
    "method.decay=0.5": "method.decay: there is no such key",
    "+label=10": "+label=10: keys cannot be added or removed",
    "++seed=1": "++seed=1: keys cannot be added or removed",
    "~method": "~method: keys cannot be added or removed",
    "+foo_hydra=1": "+foo_hydra=1: keys cannot be added or removed",
    "~hydrant.x=1": "~hydrant.x=1: keys cannot be added or removed",
    "=1": "=1: there is no key before the equals sign",
    "method=null": "method=null: a run needs one; choose an option",
    "optimizer=": "optimizer=: a run needs one; choose an option",
    "dataset=nothing": "dataset=nothing: there is no such option; there are cifar10",
    "method=Mean_Teacher": "method=Mean_Teacher: there is no such option; did you mean mean_teacher?",
    "experiment=nothing": "experiment=nothing: there is no such option",
    "logger=[nothing]": "logger=nothing: there is no such option",
    "optimizer=[sgd,adam]": "optimizer: choose one option",
    "label": "label",
    "method.teacher.decay=0.9,0.99": "method.teacher.decay=0.9,0.99",
    "seed=${nothing}": "seed: Interpolation key 'nothing' not found",
    "data_dir=${oc.env:NOT_SET_ANYWHERE}": "data_dir: KeyError raised while resolving interpolation",
    "output=${output}": "output: Recursive interpolation detected",
    "split=/nonexistent": "split=/nonexistent: cannot be read (No such file or directory)",
    "split=/": "split=/: cannot be read (Is a directory)",
    "dataset=image_folder": "dataset.root is not set",
    "trusted_packages=[a b]": "trusted_packages=a b: not the name of a module",
}


@pytest.mark.parametrize("override", COMMANDS)
def test_a_bad_command_is_named_in_one_line(override):
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(Exception) as caught:  # noqa: PT011
        check_arguments([override])
        root = compose("config", [*TINY, override], return_hydra_config=True)
        compose_run(root, root.hydra)[0].digest  # noqa: B018
    line = one_line(caught.value)
    assert COMMANDS[override] in line and "\n" not in line
    assert "did you mean" not in line or "there is no such" in line, "a hint is for missing names only"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("label=20 --config-dir DIR seed=1", "error: seed=1: stands behind an option; write options, such as --config"),
        ("label=20 --config-dir", "error: argument --config-dir/-cd: expected one argument"),
        ("--nothing label=20", "error: --nothing: there is no such option; `meanteacher train --help` lists"),
    ],
)
def test_misplaced_options_are_told_in_one_line(arguments, message, capsys):
    assert cli.main(["train", *arguments.split()]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(message) and errors.count("\n") == 1


DATA = {
    "label=9": "label=9: digits has 10 classes and needs at least one label for each; use 10 or more",
    "label=1439": "label=1439: digits has 1438 images with labels; use at most 1438, or label=all",
    "validation=1438": "validation=1438: digits has 1438 images with labels; choose fewer",
    "validation=1420": "digits has 1438 images with labels, 1420 of them held out; use at most 18",
    "validation=99999999999999999999": "choose fewer",
    "unlabeled=100000": "unlabeled=100000: digits has only 1438 for it; use fewer",
    "imbalance=1000000": "the smallest class would get no label",
    "split=/dev/null": "split=/dev/null: the list names no image",
    "dataset.image_size=1": "augment.views.weak.translate: pixels=2 is more than the side of the images",
    "model.depth=11": "model.depth=11: a WideResNet with 3 stages has a depth of 10, 16",
    "trainer.labeled_batch=1000000000": "images of a step take",
    "trainer.unlabeled_batch=9999999999999": "lower trainer.labeled_batch, trainer.unlabeled_batch",
    "model=convnet13 dataset.image_size=4": "model: ConvNet13 cannot process images of 1×4×4",
    "model=torchvision": "model=torchvision needs images with 3 channels, but these have 1; use model=timm",
    "model=timm model.name=hf-hub:someone/network": "timm has no such network",
    "model=timm model.weights=/nonexistent": "model.weights=/nonexistent: cannot be read",
    "model=timm model.train=probe": "model.train=probe trains a linear layer on trained features",
}


@pytest.mark.parametrize("overrides", DATA)
def test_what_does_not_fit_the_data_is_named_in_one_line(overrides, tmp_path):
    composed = settings(*TINY, *overrides.split()) if " " in overrides or "model=" in overrides else changed(overrides)
    with pytest.raises(UserError) as caught:
        prepare(Settings.parse(composed), tmp_path)
    assert DATA[overrides] in str(caught.value) and "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir()) or not overrides.startswith(("label", "validation", "split", "unlabeled"))


def prepare(chosen: Settings, folder) -> None:
    """Everything that a run checks before its first step."""
    augment = build(chosen.augment)
    check_before_loading(chosen, augment.views)
    data = load_data(chosen)
    make_split(data, chosen, folder)
    augment.fit(data.train.pixels)
    method, shape = build_method(chosen, data), data.train.pixels.shape[1:]
    check_combination(method, augment.views, shape)
    check_memory(method, shape, chosen.trainer.labeled_batch, chosen.trainer.unlabeled_batch)


def test_there_are_more_than_a_hundred_kinds():
    assert len(VALUES | COMMANDS | DATA) > 130
