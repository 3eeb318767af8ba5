"""The objects of one run, made from its configuration: data, split, method, trainer, loggers."""

import logging
from pathlib import Path

import numpy as np
import torch

from meanteacher.data.batches import Batches
from meanteacher.data.loader import ImageStore, Loader, choose_storage
from meanteacher.loggers import Logger, RunInfo
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.loggers.progress import Progress
from meanteacher.models import batch_norm
from meanteacher.runs import report
from meanteacher.runs.build import build, build_average, build_method, load_data, make_split
from meanteacher.runs.run_dir import RunDir
from meanteacher.training import checkpoint, device
from meanteacher.training.evaluator import EvalSplit, Evaluator
from meanteacher.training.train_step import TrainStep
from meanteacher.training.trainer import Trainer

log = logging.getLogger(__name__)


class Session:
    """Built from plain settings; picks up the folder's checkpoint. `fit` trains, `close` draws and ends the logs.

    alone: show the run's progress.
    """

    def __init__(self, settings: dict, names: dict, folder: RunDir, alone: bool = True):
        self.settings, self.names, self.folder, self.alone = settings, names, folder, alone
        keys = settings["trainer"]
        self.device = device.choose_device(keys["device"])
        torch.set_num_threads(keys["threads"] or device.THREADS)
        self.data = load_data(settings["dataset"])
        self.split = make_split(self.data, settings, folder.path)
        self.augment = build(settings["augment"])
        self.augment.fit(self.data.train.pixels)
        self.augment.to(self.device)
        state = checkpoint.load(folder.path, self.device)
        self.bitwise = state is None or (state["device"], state["threads"]) == (
            self.device.type,
            torch.get_num_threads(),
        )
        self.precision = state["precision"] if state else device.choose_precision(keys["precision"], self.device)
        here = state is not None and state["device"] == self.device.type
        self.compiled = (
            state["compiled"] if here else device.choose_compile(keys["compile"], self.device, settings["steps"])
        )
        device.prepare(self.device, self.compiled)
        free = device.free_memory(self.device)
        self.storage = choose_storage(settings["dataset"]["storage"], self.data.train.pixels, free)
        torch.manual_seed(settings["seed"])
        self.method = build_method(settings, self.data).to(self.device, memory_format=torch.channels_last)
        self.trainer = self.build_trainer(keys, state)
        self.say_plan()

    def build_trainer(self, keys: dict, state: dict | None) -> Trainer:
        settings = self.settings
        train, test = (ImageStore(part.pixels, self.device, self.storage) for part in (self.data.train, self.data.test))
        loader = Loader(
            train=self.data.train,
            split=self.split,
            labeled_batch=keys["labeled_batch"],
            unlabeled_batch=keys["unlabeled_batch"] if self.method.views.unlabeled else 0,
            seed=settings["seed"],
            storage=train,
        )
        evaluator = Evaluator(
            parts=self.parts(train, test),
            augment=self.augment,
            batch=keys["eval_batch"],
            device=self.device,
            precision=self.precision,
            compiled=self.compiled,
        )
        train_step = TrainStep(
            method=self.method,
            average=build_average(self.method, keys),
            optimizer=build(settings["optimizer"], module=self.method),
            lr=settings["optimizer"]["lr"],
            schedule=build(settings["schedule"]),
            batches=Batches(loader=loader, augment=self.augment, seed=settings["seed"], device=self.device),
            seed=settings["seed"],
            device=self.device,
            precision=self.precision,
            compiled=self.compiled,
            state=state,
        )
        return Trainer(
            train_step=train_step,
            evaluator=evaluator,
            loggers=self.loggers(),
            **{key: settings[key] for key in ("steps", "eval_every")},
            **{key: keys[key] for key in ("log_every", "checkpoint_minutes")},
            folder=self.folder.path,
            state=state,
        )

    def parts(self, train: ImageStore, test: ImageStore) -> dict[str, EvalSplit]:
        """What is evaluated: the test part, and the validation images where there are any."""
        targets = torch.from_numpy(self.data.test.targets).to(self.device)
        parts = {"test": EvalSplit(test, np.arange(len(targets)), targets)}
        if len(held := self.split.validation):
            parts["validation"] = EvalSplit(
                train, held, torch.from_numpy(self.data.train.targets[held]).to(self.device)
            )
        return parts

    def loggers(self) -> list[Logger]:
        chosen = self.settings["logger"] or {}
        shown = [Progress()] if self.alone else []
        return [Jsonl(), *shown, *(build(node) for node in chosen.values())]

    def say_plan(self) -> None:
        data, split, settings, trainer = self.data, self.split, self.settings, self.trainer
        size = "×".join(map(str, data.train.pixels.shape[1:]))
        counts = f"{len(data.train.targets)} training and {len(data.test.targets)} test images of {size}"
        held = f", {len(split.validation)} validation" if len(split.validation) else ""
        source = f"from {settings['split']}" if settings["split"] else f"split_seed {settings['split_seed']}"
        parameters = f"{sum(p.numel() for p in self.method.student.parameters()):,} parameters"
        images = {"device": "in memory", "mmap": "memory-mapped"}[self.storage]
        log.info("data    %s: %s, %d classes, %s", data.name, counts, len(data.classes), images)
        log.info("split   %d labeled, %d unlabeled%s (%s)", len(split.labeled), len(split.unlabeled), held, source)
        for note in data.notes + split.notes:
            log.info("note    %s", note)
        log.info("model   %s, %s, method %s", self.names["model"], parameters, self.names["method"])
        batch = trainer.train_step.batches.images_per_step()
        seed = settings["seed"]
        how = f"{self.device} {self.precision}, {'compiled' if self.compiled else 'eager'}"
        log.info("run     %d steps of %d images, seed %d, %s", trainer.steps, batch, seed, how)
        log.info("folder  %s", self.folder.path)
        left = batch_norm.share_of_initial_statistics(self.method.student, trainer.steps)
        if left > 0.05:
            log.warning(
                "model.bn_momentum is small for %d steps: %.0f %% of the initial batch-norm statistics would be left; "
                "use model.bn_momentum=0.01 or more", trainer.steps, 100 * left,
            )  # fmt: skip
        if trainer.step:
            log.info("resume  after step %d", trainer.step)
        if not self.bitwise:
            log.warning("another device or number of threads than before: the result will not be the same to the bit")

    def fit(self) -> dict:
        """Train; returns the measured part of result.json."""
        settings, names, folder = self.settings, self.names, self.folder
        info = RunInfo(
            folder=folder.path,
            id=folder.digest + (f"-{folder.attempt}" if folder.attempt else ""),
            config=settings | {"names": names},
            group=(names.get("sweep") or names["experiment"] or names["dataset"])[:128],
            name=f"{names['dataset']}-{names['method']}-{settings['label']}-{settings['seed']}",
            tags=[names["dataset"], names["method"], f"label-{settings['label']}"],
            steps=settings["steps"],
            start_step=self.trainer.step,
        )
        started = []
        try:
            for logger in self.trainer.loggers:
                logger.start(info)
                started.append(logger)
            status = self.trainer.fit()
        except BaseException:
            for logger in started:
                logger.finish("failed", {})
            raise
        return {
            "status": status,
            "bitwise": self.bitwise,
            **report.measured(self.trainer, self.device),
            **report.environment(self.device),
            "precision": self.precision,
            "compiled": self.compiled,
            "data": report.data(self.data, self.settings),
            "split_digest": self.split.digest(),
        }

    def close(self, result: dict) -> None:
        """Draw the pictures of a finished run and close the loggers."""
        pictures = self.draw() if result["status"] == "finished" else {}
        for logger in self.trainer.loggers:
            logger.pictures(pictures)
            logger.finish(result["status"], result)

    def draw(self) -> dict[str, Path]:
        """plots/: learning curves, confusion matrix, labeled images, augmented views."""
        from meanteacher.runs import plots

        folder, data, trainer = self.folder.path / "plots", self.data, self.trainer
        folder.mkdir(exist_ok=True)
        labels = len(self.split.labeled)
        title = f"{self.names['method']} on {data.name}, {labels} labels, seed {self.settings['seed']}"
        name, deployed = list(trainer.models().items())[-1]
        predictions = trainer.evaluator.logits(deployed, "test").argmax(dim=1).cpu().numpy()
        shown = self.split.labeled[:40]
        captions = [data.classes[target] for target in data.train.targets[shown]]
        pixels = np.array(data.train.pixels[shown])
        few = torch.from_numpy(pixels[:8]).to(self.device)
        drawn = {view: trainer.train_step.batches.augmented(few, (view,) * 3) for view in self.augment.views}
        views = {f"{view} {k}": v.cpu().numpy() for view, three in drawn.items() for k, v in enumerate(three, 1)}
        confusion = (predictions, data.test.targets, data.classes, folder / "confusion.png", f"{title}: {name}")
        return {
            "curves": plots.learning_curves(trainer.history, folder / "curves.png", title),
            "confusion": plots.confusion_matrix(*confusion),
            "labeled": plots.image_sheet(pixels, captions, folder / "labeled.png", f"{data.name}: labeled images", 10),
            "views": plots.view_sheet(pixels[:8], views, folder / "views.png", f"{data.name}: augmented views"),
        }
