"""Runs in several processes, forked from the process of the tests, so that they need not import anything again."""

import dataclasses
import json
import multiprocessing
import os
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import settings

from meanteacher.config.errors import LostProcess
from meanteacher.config.settings import Choices, Settings
from meanteacher.data import Dataset, Images
from meanteacher.runs import session
from meanteacher.runs.build import build
from meanteacher.runs.run_dir import FollowedRunDir
from meanteacher.training.ranks import ALONE, Ranks

TINY = (
    "experiment=quickstart",
    "label=20",
    "steps=2",
    "eval_every=2",
    "logger=jsonl",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.log_every=1",
    "trainer.labeled_batch=5",
    "trainer.unlabeled_batch=8",
    "optimizer.lr=0.01",
    "model.stages=1",
    "model.depth=4",
    "model.first_stride=2",
    "model.dropout=0.2",
)
"""5 labeled and 8 unlabeled images: the pieces of the batches are not of one size."""

LOW_THRESHOLDS = {"comatch": 0.11, "noisy_student": 0.11, "simmatch": 0.11}


def configurations(methods: list[str], *overrides: str) -> dict[str, Settings]:
    """Short runs by method, with thresholds such that pseudo-labels count early."""
    chosen = {}
    for name in methods:
        resolved = settings(*TINY, *overrides, f"method={name}")
        if "threshold" in (resolved["method"].get("weighting") or {}):
            resolved["method"]["weighting"]["threshold"] = LOW_THRESHOLDS.get(name, 0.17)
        if "minimum" in resolved["method"]:
            resolved["method"]["minimum"] = 2.0
        chosen[name] = Settings.parse(resolved)
    return chosen


@cache
def few_images(node: str) -> Dataset:
    """The digits with 40 test images, loaded once."""
    data = build(json.loads(node))
    test = Images(pixels=data.test.pixels[:40], targets=data.test.targets[:40], names=data.test.names[:40])
    return dataclasses.replace(data, test=test)


def in_processes(count: int, work: Callable[[Ranks], Any], folder: Path) -> list[Any]:
    """`work(ranks)` in each of `count` connected processes, in the order of the ranks; `lost` where one lost another.

    A process that is killed returns nothing: its place holds None.
    """
    context, processes = multiprocessing.get_context("fork"), []
    place = folder / f"processes-{len(list(folder.glob('processes-*')))}"
    place.mkdir()
    for rank in range(count):
        processes.append(context.Process(target=work_in_process, args=(work, Ranks(rank, count, rank, count), place)))
        processes[-1].start()
    for process in processes:
        process.join(100)
        process.kill()
    paths = [place / str(rank) for rank in range(count)]
    return [torch.load(path) if path.exists() else None for path in paths]


def work_in_process(work: Callable[[Ranks], Any], ranks: Ranks, place: Path) -> None:
    try:
        with ranks.connected(f"file://{place}/store"):
            result = work(ranks)
    except LostProcess:
        result = "lost"
    except BaseException:
        result = traceback.format_exc()
    torch.save(result, place / str(ranks.rank))
    os._exit(0)


def train(chosen: Settings, folder: Path, ranks: Ranks = ALONE) -> dict:
    """The losses of a run, its evaluation and its final state."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load_data", lambda chosen: few_images(json.dumps(chosen.dataset.node)))
        trainer = session.Session(chosen, Choices(), FollowedRunDir(folder, "digest"), False, ranks).trainer
    trainer.loggers, trainer.checkpoints = [], None
    trainer.fit()
    average = trainer.train_step.average
    return {
        "losses": [record["train/loss"] for record in trainer.history if "train/loss" in record],
        "evaluation": {name: value for name, value in trainer.history[-1].items() if name.startswith("test/")},
        "state": trainer.train_step.method.state_dict()
        | ({} if average is None else average.state_dict(prefix="average.")),
    }
