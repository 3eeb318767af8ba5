"""Measures Mean Teacher's step on this machine, beside a plain loop that does the same. Overrides are as for run.py."""

import argparse
import copy
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import errors
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from meanteacher import cli, composed, config, report
from meanteacher.data import Dataset, Images
from meanteacher.device import autocast, choose_device, choose_precision, peak_memory
from meanteacher.errors import UserError
from meanteacher.loggers.progress import Progress
from meanteacher.runfolder import RunFolder
from meanteacher.session import Session
from meanteacher.types import PositiveInt

REFERENCE, FIT, STEP, PROGRAM = "reference fp32", "trainer.fit()", "step", "python -m meanteacher.benchmark"
FREE = ("model.", "trainer.", "label=", "seed=")  # what may be overridden; the reference has the rest's defaults


def random_images(*, count: PositiveInt) -> Dataset:
    """Noise in CIFAR-10's shape: `count` training and 10 test images."""
    pixels = np.random.default_rng(0).integers(0, 256, (count + 10, 3, 32, 32), np.uint8)
    targets, names = np.arange(count + 10) % 10, [str(i) for i in range(count + 10)]
    cuts = slice(10, None), slice(10)
    train, test = (Images(pixels=pixels[cut], targets=targets[cut], names=names[cut]) for cut in cuts)
    return Dataset(name="random", classes=names[:10], train=train, test=test)


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


def plain_loss(student: nn.Module, teacher: nn.Module, views: list[Tensor], target: Tensor, weight: float) -> Tensor:
    """views: two of the whole batch, whose first len(target) images are labeled."""
    logits = student(views[0])
    with torch.no_grad():
        probabilities = teacher(views[1]).softmax(dim=1)
    return F.cross_entropy(logits[: len(target)], target) + weight * F.mse_loss(logits.softmax(dim=1), probabilities)


@torch.no_grad()
def update_average(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.mul_(decay).add_(theirs, alpha=1 - decay)


class Reference:
    """Mean Teacher as SSL repositories often write it: eager fp32 in NCHW, images one by one in DataLoader workers."""

    def __init__(self, session: Session, workers: int):
        keys, sgd, method = (session.settings[group] for group in ("trainer", "optimizer", "method"))
        self.weight, self.decay, self.labeled = method["consistency_weight"], method["ema_decay"], keys["labeled_batch"]
        self.device, self.workers = session.device, workers
        self.student = copy.deepcopy(session.method.student).to(memory_format=torch.contiguous_format).train()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        values = {key: sgd[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.student.parameters(), **values)
        norm, rng = session.augment.normalize, np.random.default_rng(0)
        data = TwoViews(session.data.train, norm.mean.flatten().tolist(), norm.std.flatten().tolist())
        streams = (session.split.labeled, self.labeled), (session.split.unlabeled, keys["unlabeled_batch"])
        order = iter(lambda: np.concatenate([rng.choice(pool, size) for pool, size in streams]).tolist(), None)
        loader = DataLoader(data, batch_sampler=order, num_workers=workers, pin_memory=self.device.type == "cuda")
        self.batches = iter(loader)  # without end, so its workers stay

    def step(self) -> float:
        *views, target = (tensor.to(self.device, non_blocking=True) for tensor in next(self.batches))
        loss = plain_loss(self.student, self.teacher, views, target[: self.labeled], self.weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        update_average(self.teacher, self.student, self.decay)
        return loss.item()

    def seconds(self, steps: int) -> float:
        """Per step, as in a long run: what idle workers made before is dropped; each of them makes as many batches."""
        for _ in range(2 * self.workers):
            next(self.batches)
        self.step()
        steps += -steps % max(self.workers, 1)
        seconds = timed(self.device, lambda: [self.step() for _ in range(steps)]) / steps
        time.sleep(2 * self.workers * seconds)  # they fill their queues, then leave the cores to what is timed next
        return seconds


class Stop(Progress):
    """Ends `fit()` at its first log, before it would evaluate or save."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        raise InterruptedError


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until it returns or `Stop` ends it, with the device idle before and after."""
    torch.get_device_module(device).synchronize()
    began = time.perf_counter()
    with suppress(InterruptedError):
        work()
    torch.get_device_module(device).synchronize()
    return time.perf_counter() - began


def step_parts(session: Session) -> dict[str, float]:
    """Seconds of a step and of its parts, with the device idle in between."""
    trainer, now, views = session.trainer, torch.zeros((), device=session.device), []
    forward = autocast(session.device, trainer.precision)(trainer.method.training_step)
    work = {
        STEP: lambda: trainer.train_step(0),
        "data": lambda: trainer.batches.loader(0),
        "augmentation": lambda: views.extend(trainer.batches(0, trainer.method.views)),  # and data, once more
        "forward+backward": lambda: forward(*views, now).loss.backward(),
        "optimizer": lambda: (trainer.optimizer.step(), trainer.optimizer.zero_grad(set_to_none=True)),
        "EMA": lambda: trainer.method.after_step(now),
    }
    found = {name: timed(session.device, part) for name, part in work.items()}
    found["augmentation"] -= found["data"]
    return found | {"rest": 2 * found[STEP] - sum(found.values())}


def one_round(reference: Reference, ours: dict[str, Session], steps: int, backward: bool) -> dict[str, float]:
    """Seconds per step of the variants, of the last one in `fit()` with its loggers, and of the parts of its step."""
    *_, session = ours.values()
    timings = {REFERENCE: lambda: reference.seconds(steps)}
    work = {name: lambda t=own.trainer: [t.train_step(step) for step in range(steps)] for name, own in ours.items()}
    timings |= {name: lambda w=w: timed(session.device, w) / steps for name, w in (work | {FIT: session.fit}).items()}
    found = {name: timings[name]() for name in list(timings)[:: -1 if backward else 1]}
    each = [step_parts(session) for _ in range(steps)]
    return found | {part: sum(seconds[part] for seconds in each) / steps for part in each[0]}


def measure(args: argparse.Namespace, settings: dict) -> dict:
    """Everything, with one value per round."""
    keys, cores, ours = settings["trainer"], os.cpu_count() or 1, {}
    names = {"dataset": "random", "model": args.model, "method": "mean_teacher", "experiment": None}
    with ExitStack() as stack:
        root, device = Path(stack.enter_context(TemporaryDirectory())), choose_device(keys["device"])
        for precision in dict.fromkeys(["fp32", choose_precision(keys["precision"], device)]):
            own = settings | {"trainer": keys | {"precision": precision}}
            folder = stack.enter_context(RunFolder(root / precision, config.digest(own), False))
            session = ours[f"ours {precision}"] = Session(own, names, folder)
            session.trainer.loggers[-1] = Stop()
            session.trainer.method.train()
        some = {n for n in (0, 1, 2, 4, cores) if n <= cores} if args.workers == "auto" else {int(args.workers)}
        tried = {workers: Reference(session, workers).seconds(args.steps) for workers in sorted(some)}
        reference = Reference(session, min(tried, key=tried.get))
        rounds = [one_round(reference, ours, args.steps, bool(i % 2)) for i in range(args.rounds + 1)][1:]
    seconds = {name: [found[name] for found in rounds] for name in rounds[0]}
    ratios = {name: np.divide(seconds[REFERENCE], seconds[name]).tolist() for name in (REFERENCE, *ours)}
    images = session.trainer.batches.images_per_step()
    speeds = {name: [images / value for value in seconds[name]] for name in ratios}
    found = {"model": args.model, "device": str(device), "precision": precision, "steps": args.steps}
    found |= {"images_per_step": images, "workers": reference.workers, "seconds_per_step_by_workers": tried}
    found |= {"seconds_per_step": seconds, "images_per_second": speeds, "ratio_to_reference": ratios}
    return found | {"peak_memory_bytes": peak_memory(device)} | report.environment(device)


def text(found: dict) -> str:
    """Medians over the rounds, with their range."""

    def spread(values: np.ndarray | list[float], form: str) -> str:
        return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    seconds, speeds, ours = found["seconds_per_step"], found["images_per_second"], f"ours {found['precision']}"
    place = f"{found['hardware']}, {found['device']}, {found['threads']} threads, torch {found['versions']['torch']}"
    lines = [f"{found['images_per_step']} images a step; {place}; {found['workers']} workers in the reference"]
    for name, ratio in found["ratio_to_reference"].items():
        lines.append(f"{name:16}{spread(speeds[name], '.0f'):>26} img/s{spread(ratio, '.2f'):>24} x the reference")
    if len(speeds) == 2:
        lines.append("trainer.precision is fp32 here, so there is no other variant of ours")
    for name in list(seconds)[list(seconds).index(STEP) + 1 :]:
        share = spread(100 * np.divide(seconds[name], seconds[STEP]), ".1f")
        lines.append(f"{name:16}{share:>26} % of the step of {ours}")
    over = spread(100 * np.divide(seconds[FIT], seconds[ours]) - 100, "+.2f")
    lines.append(f"{FIT:16}{over:>26} % beyond its bare steps, logging every {found['steps']} steps included")
    return "\n".join([*lines, f"peak memory of all this: {found['peak_memory_bytes'] / 2**30:.2f} GiB"])


def prepare(arguments: list[str]) -> tuple[argparse.Namespace, dict]:
    """The options, and plain settings that train on noise without an end."""
    parser = argparse.ArgumentParser(PROGRAM, "%(prog)s [options] [overrides]", __doc__, exit_on_error=False)
    parser.add_argument("--model", default="wrn_28_2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each variant in a round")
    parser.add_argument("--workers", default="auto", help="of the reference; auto: the fastest of a few numbers")
    parser.add_argument("--images", type=int, default=50_000, help="to draw batches from")
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    args, overrides = parser.parse_known_args(arguments)
    if min(args.rounds, args.steps) < 1 or not (args.workers == "auto" or args.workers.isdigit()):
        raise UserError("--rounds and --steps take numbers from 1, --workers takes auto or a number from 0")
    if wrong := [override for override in overrides if not override.startswith(FREE)]:
        raise UserError(f"{wrong[0]}: the reference is for the defaults; only {', '.join(FREE)} can be changed")
    if not composed.CONF.is_dir():
        raise UserError("there is no conf beside the package; run this in a checkout of the repository")
    with initialize_config_dir(str(composed.CONF), version_base="1.3"):
        root = compose("config", [f"model={args.model}", f"trainer.device={args.device}", *overrides])
    settings = composed.plain(root)
    noise = {"_target_": "meanteacher.benchmark.random_images", "count": args.images}
    settings["dataset"] = {"name": "random", "storage": "device", "labeled_in_unlabeled": True, **noise}
    settings["trainer"] |= {"log_every": args.steps, "checkpoint_minutes": 1e9}
    settings |= {"steps": 2**62, "eval_every": 2**62, "logger": {}}
    config.check(settings)
    return args, settings


def main(arguments: list[str]) -> int:
    logging.getLogger("meanteacher").addHandler(logging.NullHandler())
    try:
        args, settings = prepare(arguments)
        found = {"command": " ".join([PROGRAM, *arguments])} | measure(args, settings)
        print(text(found))
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    except (UserError, argparse.ArgumentError, HydraException, errors.OmegaConfBaseException, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
