"""From a plain configuration to a finished run folder."""

import inspect
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import nn

from meanteacher import batchnorm, checkpoint, config, device, report
from meanteacher.data import Dataset, splits
from meanteacher.data.loader import Loader, Storage, choose_storage
from meanteacher.ema import EMA
from meanteacher.errors import UserError
from meanteacher.evaluator import Evaluator, Part
from meanteacher.loggers import Logger, RunInfo
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.loggers.progress import Progress
from meanteacher.methods.base import Method
from meanteacher.runfolder import RunFolder, source_digest
from meanteacher.trainer import Trainer

log = logging.getLogger(__name__)


def run(settings: dict, names: dict, path: Path, command: str) -> dict:
    """Train, resume or report the run that `settings` describe, in the folder `path`; returns result.json's content.

    settings: the composed configuration as plain builtins; names: which option of each config group it came from.
    Raises UserError for bad input, after which the folder says `failed` and holds all that was computed.
    """
    digest = config.digest(settings)
    with RunFolder(path, digest, settings["fresh"]) as folder, log_file(folder.path / "run.log"):
        there = folder.result()
        if there and there["status"] == "finished":
            return reported(there, folder)
        result = {
            "status": "running",
            "digest": digest,
            "command": command,
            "names": names,
            "source": source_digest(),
            **{key: settings[key] for key in ("label", "seed", "split_seed", "validation")},
            "attempts": (there["attempts"] if there else 0) + 1,
        }
        started = time.time()
        earlier = there["wall_seconds"] if there else 0.0
        try:
            folder.write_result(result | {"wall_seconds": earlier})
            (folder.path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
            session = Session(settings, names, folder)
            result |= session.fit()
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else repr(error)
            folder.write_result(
                result | {"status": "failed", "reason": reason, "wall_seconds": earlier + time.time() - started}
            )
            raise
        result["wall_seconds"] = earlier + time.time() - started
        folder.write_result(result)
        session.close(result)
        how = (
            report.text(result, folder.path)
            if result["status"] == "finished"
            else "stopped; the same command goes on: " + command
        )
        log.info("%s", how)
        return result


def reported(result: dict, folder: RunFolder) -> dict:
    """Say what a finished run gave, instead of repeating it."""
    log.info("this run is finished; fresh=true repeats it")
    if result["source"] != source_digest():
        log.warning("it was made with other source code of this package (%s)", result["commit"])
    log.info("%s", report.text(result, folder.path))
    return result


class log_file:
    """Everything this package logs also goes to `path` while the context lasts."""

    def __init__(self, path: Path):
        self.handler = logging.FileHandler(path, delay=True)
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> None:
        logging.getLogger("meanteacher").addHandler(self.handler)

    def __exit__(self, *details) -> None:
        logging.getLogger("meanteacher").removeHandler(self.handler)
        self.handler.close()


class Session:
    """The objects of one run, made from its configuration: data, split, method, trainer, loggers."""

    def __init__(self, settings: dict, names: dict, folder: RunFolder):
        self.settings, self.names, self.folder = settings, names, folder
        keys = settings["trainer"]
        self.device = device.choose_device(keys["device"])
        precision = device.choose_precision(keys["precision"], self.device)
        self.data = load_data(settings["dataset"])
        self.split = make_split(self.data, settings, folder.path)
        self.augment = build(settings["augment"])
        self.augment.fit(self.data.train.pixels)
        self.augment.to(self.device)
        free = device.free_memory(self.device)
        storage = choose_storage(settings["dataset"]["storage"], self.data.train.pixels, free)
        train, test = (Storage(part.pixels, self.device, storage) for part in (self.data.train, self.data.test))
        state = checkpoint.load(folder.path, self.device)
        self.bitwise = state is None or (state["device"], state["threads"]) == (
            self.device.type,
            torch.get_num_threads(),
        )
        if state is not None and state["precision"] != precision:
            precision = state["precision"]
            log.warning("going on in %s, as the run began", precision)
        torch.manual_seed(settings["seed"])
        self.method = build_method(settings, self.data).to(self.device, memory_format=torch.channels_last)
        unlabeled = keys["unlabeled_batch"] if self.method.views.unlabeled else 0
        self.trainer = Trainer(
            method=self.method,
            average=build_average(self.method, keys),
            optimizer=build(settings["optimizer"], module=self.method),
            lr=settings["optimizer"]["lr"],
            schedule=build(settings["schedule"]),
            augment=self.augment,
            loader=Loader(
                train=self.data.train,
                split=self.split,
                labeled_batch=keys["labeled_batch"],
                unlabeled_batch=unlabeled,
                seed=settings["seed"],
                storage=train,
            ),
            evaluator=Evaluator(
                parts=self.parts(train, test),
                augment=self.augment,
                batch=keys["eval_batch"],
                device=self.device,
                precision=precision,
            ),
            loggers=self.loggers(),
            steps=settings["steps"],
            eval_every=settings["eval_every"],
            log_every=keys["log_every"],
            checkpoint_minutes=keys["checkpoint_minutes"],
            seed=settings["seed"],
            device=self.device,
            precision=precision,
            folder=folder.path,
            state=state,
        )
        self.say_plan(storage, precision)

    def parts(self, train: Storage, test: Storage) -> dict[str, Part]:
        """What is evaluated: the test part, and the validation images where there are any."""
        targets = torch.from_numpy(self.data.test.targets).to(self.device)
        parts = {"test": Part(test, np.arange(len(targets)), targets)}
        if len(held := self.split.validation):
            parts["validation"] = Part(train, held, torch.from_numpy(self.data.train.targets[held]).to(self.device))
        return parts

    def loggers(self) -> list[Logger]:
        chosen = self.settings["logger"] or {}
        return [Jsonl(), Progress(), *(build(node) for node in chosen.values())]

    def say_plan(self, storage: str, precision: str) -> None:
        data, split, settings = self.data, self.split, self.settings
        size = "×".join(map(str, data.train.pixels.shape[1:]))
        parameters = sum(p.numel() for p in self.method.student.parameters())
        held = f", {len(split.validation)} validation" if len(split.validation) else ""
        log.info("data    %s: %d training and %d test images of %s, %d classes", data.name, len(data.train.targets), len(data.test.targets), size, len(data.classes))  # fmt: skip
        log.info("split   %d labeled, %d unlabeled%s (split_seed %d)", len(split.labeled), len(split.unlabeled), held, settings["split_seed"])  # fmt: skip
        for note in data.notes + split.notes:
            log.info("note    %s", note)
        log.info("model   %s: %s parameters; method %s", self.names["model"], f"{parameters:,}", self.names["method"])
        log.info("run     %d steps of %d images, seed %d, on %s in %s, images in %s", settings["steps"], self.trainer.loader.images_per_step(), settings["seed"], self.device, precision, {"device": "memory", "mmap": "a memory map"}[storage])  # fmt: skip
        log.info("folder  %s", self.folder.path)
        left = batchnorm.share_of_initial_statistics(self.method.student, settings["steps"])
        if left > 0.05:
            log.warning("model.bn_momentum is too small for %d steps: %.0f %% of the initial batch-norm statistics would be left; use model.bn_momentum=0.01 or more", settings["steps"], 100 * left)  # fmt: skip
        if self.trainer.step:
            log.info(
                "going on after step %d%s",
                self.trainer.step,
                "" if self.bitwise else " on another device or number of threads",
            )

    def fit(self) -> dict:
        """Train; returns the measured part of result.json."""
        attempt = f"-{self.folder.attempt}" if self.folder.attempt else ""
        info = RunInfo(
            folder=self.folder.path,
            id=self.folder.digest + attempt,
            config=self.settings,
            group=self.names["experiment"] or self.names["dataset"],
            name=f"{self.names['dataset']}-{self.names['method']}-{self.settings['label']}-{self.settings['seed']}",
            tags=[self.names["dataset"], self.names["method"], f"label-{self.settings['label']}"],
            steps=self.settings["steps"],
            start_step=self.trainer.step,
        )
        for logger in self.trainer.loggers:
            logger.start(info)
        try:
            status = self.trainer.fit()
        except BaseException:
            for logger in self.trainer.loggers:
                logger.finish("failed", {})
            raise
        return {
            "status": status,
            "bitwise": self.bitwise,
            **report.finished(self.trainer, self.device),
            **report.environment(self.device),
        }

    def close(self, result: dict) -> None:
        """Draw the pictures of a finished run and close the loggers."""
        pictures = draw(self) if result["status"] == "finished" else {}
        for logger in self.trainer.loggers:
            logger.pictures(pictures)
            logger.finish(result["status"], result)


def build(node: dict, **given: Any) -> Any:
    """The object that a configuration node names. Bad input met on the way stays a UserError."""
    try:
        return instantiate(node, _convert_="all", **given)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def load_data(node: dict) -> Dataset:
    own = {key: value for key, value in node.items() if key not in config.UNTARGETED["dataset"]}
    return build(own)


def make_split(data: Dataset, settings: dict, folder: Path) -> splits.Split:
    """The split of this run: from the run folder where it has one, from the file `split` names, or drawn; kept as split.json."""
    shared = settings["dataset"]["labeled_in_unlabeled"]
    kept = folder / "split.json"
    if kept.exists():
        return splits.read(kept, data, labeled_in_unlabeled=shared)
    choice = {key: settings[key] for key in ("label", "split_seed")}
    if settings["split"]:
        split = splits.read(Path(settings["split"]), data, labeled_in_unlabeled=shared)
    else:
        split = splits.draw(data, **choice, validation=settings["validation"], labeled_in_unlabeled=shared)
    splits.write(kept, data, split, choice | {"labeled_in_unlabeled": shared})
    return split


def build_method(settings: dict, data: Dataset) -> Method:
    """The method around a new student, given those of the run's facts that its constructor names."""
    channels, classes = data.train.pixels.shape[1], len(data.classes)
    student: nn.Module = build(settings["model"], channels=channels, classes=classes)
    facts = {"student": student, "num_classes": classes, "num_images": len(data.train.targets)}
    wanted = inspect.signature(get_class(settings["method"]["_target_"])).parameters
    return build(settings["method"], **{name: fact for name, fact in facts.items() if name in wanted})


def build_average(method: Method, keys: dict) -> EMA | None:
    """Averaged weights to evaluate beside a method that has no teacher of its own."""
    if len(method.eval_models()) > 1:
        return None
    return EMA(method.student, decay=keys["average_decay"], warmup=keys["average_warmup"], buffers=keys["average_bn"])


def draw(session: Session) -> dict[str, Path]:
    """plots/: learning curves, confusion matrix, labeled images, augmented views."""
    from meanteacher import plots

    folder, data, trainer = session.folder.path / "plots", session.data, session.trainer
    folder.mkdir(exist_ok=True)
    title = f"{session.names['method']} on {data.name}, {len(session.split.labeled)} labels, seed {session.settings['seed']}"
    name, deployed = list(trainer.models().items())[-1]
    predictions = trainer.evaluator.logits(deployed, "test").argmax(dim=1).cpu().numpy()
    shown = session.split.labeled[:40]
    captions = [data.classes[target] for target in data.train.targets[shown]]
    few = np.array(data.train.pixels[shown[:8]])
    pixels = torch.from_numpy(few).to(session.device)
    views = {
        view: session.augment(pixels, view, trainer.generator).float().cpu().numpy() for view in session.augment.views
    }
    return {
        "curves": plots.learning_curves(trainer.history, folder / "curves.png", title),
        "confusion": plots.confusion_matrix(predictions, data.test.targets, data.classes, folder / "confusion.png", f"{title}: {name}"),
        "labeled": plots.image_sheet(np.array(data.train.pixels[shown]), captions, folder / "labeled.png", f"labeled images of {data.name}", 10),
        "views": plots.view_sheet(few, views, folder / "views.png", "augmented views"),
    }  # fmt: skip
