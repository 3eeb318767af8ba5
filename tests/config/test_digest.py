"""The digest and the folder of a run follow from what determines its result, and from nothing else."""

import pytest
from conftest import CONF, parsed, settings
from hydra import compose, initialize_config_dir

from meanteacher.config import composing
from meanteacher.config.added_keys import SCENARIO
from meanteacher.config.digest import run_digest
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings


def test_the_digest_holds_what_determines_the_result_and_nothing_else():
    first = parsed().digest
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
        assert parsed(override).digest == first, override
    for override in (
        "seed=1",
        "label=250",
        "steps=7",
        "eval_every=7",
        "validation=5",
        "unlabeled=500",
        "mismatch=0",
        "imbalance=10",
        "unlabeled_imbalance=10",
        "split_seed=1",
        "method=supervised",
    ):
        assert parsed(override).digest != first, override
    for override in (
        "trainer.precision=fp32",
        "method.teacher.decay=0.9",
        "dataset.labeled_in_unlabeled=false",
        "dataset=svhn",
    ):
        assert parsed(override).digest != first, override


def test_runs_keep_their_names_where_the_realistic_options_are_not_used():
    without = {key: value for key, value in settings().items() if key not in SCENARIO}
    assert run_digest(without) == parsed().digest
    assert Settings.parse(without) == parsed() and parsed().scenario == {}
    assert parsed("mismatch=0", "imbalance=10").scenario == {"mismatch": 0, "imbalance": 10}


def test_the_digest_holds_the_split_files_content(tmp_path):
    (tmp_path / "a").write_text("1")
    first = parsed(f"split={tmp_path}/a").digest
    (tmp_path / "b").write_text("1")
    assert parsed(f"split={tmp_path}/b").digest == first
    (tmp_path / "b").write_text("2")
    assert parsed(f"split={tmp_path}/b").digest != first
    with pytest.raises(UserError, match="cannot be read"):
        run_digest(settings(f"split={tmp_path}/c"))


def run_dir_of(*overrides: str) -> str:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        root = compose("config", list(overrides), return_hydra_config=True)
        return composing.run_dir(_root_=root)


def test_a_run_directory_is_named_by_what_determines_the_result():
    one = parsed("label=250", "seed=3")
    assert run_dir_of("label=250", "seed=3") == f"cifar10/mean_teacher/label-250/seed-3/{one.digest}"


def test_sweepers_that_optimize_need_validation_images():
    with pytest.raises(UserError, match="hydra/sweeper=optuna needs validation images"):
        run_dir_of("hydra/sweeper=optuna")
    assert run_dir_of("hydra/sweeper=optuna", "validation=1000")
    with pytest.raises(UserError, match="hydra.sweeper.storage: a stored study adds"):
        run_dir_of("hydra/sweeper=optuna", "validation=1000", "hydra.sweeper.storage=sqlite:///study.db")


def test_the_digest_does_not_depend_on_where_a_class_lives():
    moved = settings()
    moved["method"] = moved["method"] | {"_target_": "elsewhere.MeanTeacher"}
    assert run_digest(moved) == run_digest(settings())
    moved["method"] = moved["method"] | {"_target_": "elsewhere.OtherTeacher"}
    assert run_digest(moved) != run_digest(settings())
