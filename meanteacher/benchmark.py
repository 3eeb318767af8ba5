"""Measures a Mean Teacher step on this machine beside a plain loop that does the same; -h says how."""

import argparse
import copy
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf, errors
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from meanteacher import cli, config, report
from meanteacher.data import Dataset, Images
from meanteacher.device import autocast, choose_device, choose_precision, peak_memory
from meanteacher.errors import UserError
from meanteacher.experiment import Session
from meanteacher.loggers.progress import Progress
from meanteacher.runfolder import RunFolder
from meanteacher.trainer import Trainer
from meanteacher.types import PositiveInt

REFERENCE, FIT = "reference fp32", "trainer.fit()"
ENDLESS = 2**62  # steps


def random_images(*, count: PositiveInt) -> Dataset:
    """Noise in CIFAR-10's shape: `count` training and 10 test images."""
    rng = np.random.default_rng(0)

    def part(n: int) -> Images:
        pixels = rng.integers(0, 256, (n, 3, 32, 32), np.uint8)
        return Images(pixels=pixels, targets=np.arange(n) % 10, names=[str(i) for i in range(n)])

    return Dataset(name="random", classes=list("0123456789"), train=part(count), test=part(10))


class TwoViews:
    """(view, view, target) of one image at a time, by PIL and torchvision."""

    def __init__(self, images: Images, mean: list[float], std: list[float]):
        self.pixels, self.targets = np.ascontiguousarray(images.pixels.transpose(0, 2, 3, 1)), images.targets
        crop = transforms.RandomCrop(self.pixels.shape[1:3], padding=4, padding_mode="reflect")
        steps = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.transform = transforms.Compose(steps)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image = Image.fromarray(self.pixels[index])
        return self.transform(image), self.transform(image), int(self.targets[index])


def two_streams(pools: tuple[np.ndarray, np.ndarray], batches: tuple[int, int]) -> Iterator[list[int]]:
    """Positions of one batch after another without end, the labeled ones first."""
    rng = np.random.default_rng(0)
    while True:
        yield np.concatenate([rng.choice(pool, size) for pool, size in zip(pools, batches, strict=True)]).tolist()


def reference_loss(student: nn.Module, teacher: nn.Module, views: list[Tensor], target: Tensor, weight: float) -> Tensor:
    """views: two of the whole batch, whose first len(target) images are labeled."""
    logits = student(views[0])
    with torch.no_grad():
        teacher_logits = teacher(views[1])
    supervised = F.cross_entropy(logits[: len(target)], target)
    return supervised + weight * F.mse_loss(logits.softmax(dim=1), teacher_logits.softmax(dim=1))


@torch.no_grad()
def update_average(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.mul_(decay).add_(theirs, alpha=1 - decay)


class Reference:
    """Mean Teacher as SSL repositories commonly write it: eager fp32 in NCHW, images one by one in DataLoader workers."""

    def __init__(self, settings: dict, session: Session):
        self.device, self.method, self.count = session.device, settings["method"], 0
        torch.manual_seed(settings["seed"])
        self.student = instantiate(settings["model"], channels=3, classes=10).to(self.device).train()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        values = {key: settings["optimizer"][key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.student.parameters(), **values)
        norm = session.augment.normalize
        self.data = TwoViews(session.data.train, norm.mean.flatten().tolist(), norm.std.flatten().tolist())
        self.batches = settings["trainer"]["labeled_batch"], settings["trainer"]["unlabeled_batch"]
        self.positions = two_streams((session.split.labeled, session.split.unlabeled), self.batches)

    def use(self, workers: int) -> "Reference":
        """Read with so many processes from here on."""
        keys = {"persistent_workers": workers > 0, "pin_memory": self.device.type == "cuda"}
        self.workers, self.loader = workers, None  # ends the former ones
        self.loader = iter(DataLoader(self.data, batch_sampler=self.positions, num_workers=workers, **keys))
        return self

    def step(self) -> float:
        *views, target = (tensor.to(self.device, non_blocking=True) for tensor in next(self.loader))
        target, weight = target[: self.batches[0]], self.method["consistency_weight"]
        loss = reference_loss(self.student, self.teacher, views, target, weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.count += 1
        update_average(self.teacher, self.student, min(1 - 1 / (self.count + 1), self.method["ema_decay"]))
        return loss.item()

    def seconds(self, steps: int) -> float:
        """Per step, as in a long run: what idle workers made before is dropped, each of them makes equally many batches."""
        for _ in range(2 * self.workers):
            next(self.loader)
        self.step()
        steps += -steps % max(self.workers, 1)
        seconds = timed(self.device, lambda: [self.step() for _ in range(steps)]) / steps
        time.sleep(2 * self.workers * seconds)  # they fill their queues, then leave the cores to what is timed next
        return seconds


class Stop(Progress):
    """Ends `fit()` at its first log, before it would evaluate or save."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        raise StopIteration


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds, with the device idle before and after."""
    synchronize = torch.get_device_module(device).synchronize
    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


def run_bare(trainer: Trainer, steps: int) -> None:
    for step in range(trainer.step, trainer.step + steps):
        trainer.train_step(step)
    trainer.step += steps


def run_fit(session: Session) -> None:
    """To the next log, with the start and finish of the loggers."""
    with suppress(StopIteration):
        session.fit()


def step_parts(trainer: Trainer) -> dict[str, float]:
    """Seconds of the parts of a step, with the device idle in between."""
    now, views = torch.full((), float(trainer.step), device=trainer.device), []

    def network() -> None:
        with autocast(trainer.device, trainer.precision):
            output = trainer.method.training_step(*views, now)
        output.loss.backward()

    parts = {
        "data": lambda: trainer.loader(trainer.step),
        "augmentation": lambda: views.extend(trainer.batch(trainer.step)),  # and data, once more
        "forward+backward": network,
        "optimizer": lambda: (trainer.optimizer.step(), trainer.optimizer.zero_grad(set_to_none=True)),
        "EMA": lambda: trainer.method.after_step(now),
    }
    found = {name: timed(trainer.device, part) for name, part in parts.items()}
    return found | {"augmentation": found["augmentation"] - found["data"]}


def one_round(reference: Reference, ours: dict[str, Session], steps: int, backward: bool) -> dict[str, float]:
    """Seconds per step of every variant, of the last one in `fit()`, and of the parts of its step."""
    device, name, session = reference.device, *list(ours.items())[-1]
    timings = {REFERENCE: lambda: reference.seconds(steps)}
    for variant, own in ours.items():
        timings[variant] = lambda own=own: timed(device, lambda: run_bare(own.trainer, steps)) / steps
    timings[FIT] = lambda: timed(device, lambda: run_fit(session)) / steps
    found = {variant: timings[variant]() for variant in list(timings)[:: -1 if backward else 1]}
    each = [step_parts(session.trainer) for _ in range(steps)]
    parts = {part: sum(seconds[part] for seconds in each) / steps for part in each[0]}
    return found | parts | {"rest": found[name] - sum(parts.values())}


def measure(settings: dict, names: dict, args: argparse.Namespace) -> dict:
    keys = settings["trainer"]
    device = choose_device(keys["device"])
    with ExitStack() as stack:
        root, ours = Path(stack.enter_context(TemporaryDirectory())), {}
        for precision in dict.fromkeys(["fp32", choose_precision(keys["precision"], device)]):
            own = settings | {"trainer": keys | {"precision": precision}}
            folder = stack.enter_context(RunFolder(root / precision, config.digest(own), False))
            session = ours[f"ours {precision}"] = Session(own, names, folder)
            session.trainer.loggers[-1] = Stop()
            session.trainer.method.train()
        reference = Reference(settings, session)
        tried = {workers: reference.use(workers).seconds(args.steps) for workers in args.workers}
        reference.use(best := min(tried, key=tried.get))
        rounds = [one_round(reference, ours, args.steps, bool(i % 2)) for i in range(args.rounds + 1)][1:]
    seconds = {name: [found[name] for found in rounds] for name in sorted(rounds[0])}
    images, last = sum(reference.batches), seconds[f"ours {precision}"]

    def against(over: list[float], name: str) -> list[float]:
        return [a / b for a, b in zip(over, seconds[name], strict=True)]

    return {
        "images_per_step": images,
        "seconds_per_step": seconds,
        "images_per_second": {name: [images / s for s in seconds[name]] for name in (REFERENCE, *ours)},
        "ratio_to_reference": {name: against(seconds[REFERENCE], name) for name in ours},
        "shares": 0,
        "workers": best,
        "seconds_per_step_by_workers": tried,
        "peak_memory_bytes": peak_memory(device),
    }
