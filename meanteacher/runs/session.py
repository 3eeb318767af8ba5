"""The objects of one run, built from its settings: data, split, method, trainer, loggers."""

import logging
from pathlib import Path

import numpy as np
import torch

from meanteacher.config.digest import location_key
from meanteacher.config.settings import Choices, Settings
from meanteacher.data.batches import Batches
from meanteacher.data.loader import ImageStore, Loader, choose_storage
from meanteacher.loggers import Logger, RunInfo
from meanteacher.loggers.guarded import Guarded
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.loggers.progress import Progress
from meanteacher.methods.combinations import check_combination
from meanteacher.optim import build_optimizer
from meanteacher.runs import plan, report, transfer
from meanteacher.runs.build import (
    build,
    build_average,
    build_method,
    check_before_loading,
    choose_eval_batch,
    load_data,
    make_split,
)
from meanteacher.runs.class_scores import class_scores, scores_by_class
from meanteacher.runs.result import ClassScores
from meanteacher.runs.run_dir import FollowedRunDir, RunDir
from meanteacher.training import device
from meanteacher.training.checkpoint import Checkpoints
from meanteacher.training.evaluator import EvalSplit, Evaluator
from meanteacher.training.memory import check_memory
from meanteacher.training.ranks import ALONE, Ranks
from meanteacher.training.sharding import ELASTIC_PIECES, choose_partition
from meanteacher.training.train_step import TrainStep
from meanteacher.training.trainer import Trainer

log = logging.getLogger(__name__)


class Session:
    """Everything that one run needs in memory; picks up the run directory's checkpoint.

    `fit` trains, `close` ends the loggers. show_progress: show a progress bar. ranks: the processes of the run, each of
    which has a session; only the main one's writes into the run directory and logs.
    Raises UserError for bad input.
    """

    def __init__(
        self,
        settings: Settings,
        choices: Choices,
        run_dir: RunDir | FollowedRunDir,
        show_progress: bool = True,
        ranks: Ranks = ALONE,
    ):
        self.settings, self.choices, self.run_dir, self.ranks = settings, choices, run_dir, ranks
        self.device = device.choose_device(settings.trainer.device, ranks)
        self.partition = choose_partition(ranks, settings.trainer.elastic)
        sharing = ranks.local_count if settings.trainer.elastic == "none" else ELASTIC_PIECES
        torch.set_num_threads(settings.trainer.threads or max(device.THREADS // sharing, 1))
        self.augment = build(settings.augment)
        check_before_loading(settings, self.augment.views)
        with ranks.main_first():
            self.data = load_data(settings)
            self.split = make_split(self.data, settings, run_dir.path)
        self.augment.fit(self.data.train.pixels)
        self.augment.to(self.device)
        self.checkpoints = Checkpoints(run_dir.path, run_dir.digest, self.split.digest())
        state = self.checkpoints.load(self.device)
        self.choose_arithmetic(state)
        device.prepare(self.device, self.compiled)
        free = device.free_memory(self.device) // (1 if self.device.type == "cuda" else ranks.local_count)
        self.storage = choose_storage(settings.dataset.storage, self.data.train.pixels, free)
        torch.manual_seed(settings.seed)
        self.method = build_method(settings, self.data).to(self.device, memory_format=torch.channels_last)
        shape = self.data.train.pixels.shape[1:]
        check_combination(self.method, self.augment.views, shape)
        check_memory(self.method, shape, settings.trainer.labeled_batch, settings.trainer.unlabeled_batch)
        transfer.normalize_as_weights(self.augment, self.method)
        self.trainer = self.build_trainer(state, list(map(Guarded, self.build_loggers(show_progress))))
        self.started: list[Logger] = []
        self.log_plan()

    def choose_arithmetic(self, state: dict | None) -> None:
        """Set `precision`, `compiled` (both kept by a resumed run) and `bitwise`: a resume gives the same bits."""
        chosen = self.settings.trainer
        self.precision = device.choose_precision(chosen.precision, self.device)
        self.compiled = device.choose_compile(
            chosen.compile, self.device, self.settings.steps, self.partition is not None
        )
        self.bitwise = True
        if state is not None:
            same_device = state["device"] == self.device.type
            self.precision = state["precision"]
            self.compiled = state["compiled"] if same_device and self.partition is None else self.compiled
            pieces = 1 if self.partition is None else self.partition.pieces
            same = state["threads"] == torch.get_num_threads() and state.get("pieces", 1) == pieces
            self.bitwise = same_device and same and state.get("bitwise", True)

    def build_trainer(self, state: dict | None, loggers: list[Logger]) -> Trainer:
        settings, keys = self.settings, self.settings.trainer
        train, test = (ImageStore(part.pixels, self.device, self.storage) for part in (self.data.train, self.data.test))
        evaluator = Evaluator(
            parts=self.eval_splits(train, test),
            augment=self.augment,
            batch=choose_eval_batch(keys, self.data.train.pixels.shape[1:]),
            device=self.device,
            precision=self.precision,
            compiled=self.compiled,
        )
        return Trainer(
            train_step=self.build_train_step(train, state),
            evaluator=evaluator,
            loggers=loggers,
            steps=settings.steps,
            eval_every=settings.eval_every,
            log_every=keys.log_every,
            checkpoint_minutes=keys.checkpoint_minutes,
            checkpoints=self.checkpoints if self.ranks.main else None,
            state=state,
            bitwise=self.bitwise,
            partition=self.partition,
        )

    def build_train_step(self, train: ImageStore, state: dict | None) -> TrainStep:
        settings, keys = self.settings, self.settings.trainer
        loader = Loader(
            train=self.data.train,
            split=self.split,
            labeled_batch=keys.labeled_batch,
            unlabeled_batch=keys.unlabeled_batch if self.method.views.unlabeled else 0,
            seed=settings.seed,
            storage=train,
            balanced=keys.labeled_sampling == "balanced",
        )
        self.batches = Batches(loader=loader, augment=self.augment, seed=settings.seed, device=self.device)
        optimizer = build_optimizer(
            build(settings.optimizer.node),
            self.method,
            lr=settings.optimizer.lr,
            decay_norm_and_bias=settings.optimizer.decay_norm_and_bias,
            lr_scales=transfer.lr_scales(self.method, settings.optimizer),
        )
        return TrainStep(
            method=self.method,
            average=build_average(self.method, keys),
            optimizer=optimizer,
            lr=settings.optimizer.lr,
            schedule=build(settings.schedule),
            batches=self.batches,
            seed=settings.seed,
            device=self.device,
            precision=self.precision,
            compiled=self.compiled,
            classes=len(self.data.classes),
            state=state,
        )

    def eval_splits(self, train: ImageStore, test: ImageStore) -> dict[str, EvalSplit]:
        """What is evaluated: the test part, validation images, and test images of classes without labels, if any."""
        targets = torch.from_numpy(self.data.test.targets).to(self.device)
        splits = {"test": EvalSplit(test, np.arange(len(targets)), targets)}
        if len(validation := self.split.validation):
            targets = torch.from_numpy(self.data.train.targets[validation]).to(self.device)
            splits["validation"] = EvalSplit(train, validation, targets)
        if (unknown := self.data.unknown_test) and len(unknown.targets):
            storage = ImageStore(unknown.pixels, self.device, self.storage)
            splits["unknown"] = EvalSplit(storage, np.arange(len(unknown.targets)), None)
        return splits

    def build_loggers(self, show_progress: bool) -> list[Logger]:
        if not self.ranks.main:
            return []
        progress = [Progress()] if show_progress else []
        return [Jsonl(), *progress, *(build(node) for node in self.settings.logger.values())]

    def run_info(self) -> RunInfo:
        """What the loggers are told at the start."""
        settings, choices, run_dir = self.settings, self.choices, self.run_dir
        group = choices.sweep or choices.experiment or choices.dataset or ""
        return RunInfo(
            folder=run_dir.path,
            id=run_dir.digest + (f"-{run_dir.attempt}" if run_dir.attempt else ""),
            config=settings.as_dict() | {"choices": choices.model_dump()},
            group=group[:128],
            name=f"{choices.dataset}-{choices.method}-{settings.label}-{settings.seed}",
            tags=[str(choices.dataset), str(choices.method), f"label-{settings.label}"],
            steps=settings.steps,
            start_step=self.trainer.step,
            history=tuple(self.trainer.history),
        )

    def log_plan(self) -> None:
        """Log what the run will do, with warnings about settings that do not suit it."""
        plan.log_data(self.data, self.split, self.settings, self.storage)
        plan.log_model(self.method.student, self.choices)
        transfer.log_weights(self.augment, self.method, self.data.train.pixels.shape[2:])
        images, seed = self.batches.images_per_step(), self.settings.seed
        count = f"{self.ranks.count} × " if self.ranks.together else ""
        mode = f"{count}{self.device} {self.precision}, {'compiled' if self.compiled else 'eager'}"
        log.info("run     %d steps of %d images, seed %d, %s", self.settings.steps, images, seed, mode)
        log.info("folder  %s", self.run_dir.path)
        plan.warn_of_slow_batch_norm(self.method.student, self.settings)
        if self.trainer.step:
            log.info("resume  after step %d", self.trainer.step)
        if not self.bitwise:
            log.warning("the devices or the number of threads changed: the result will not be the same to the bit")

    def fit(self) -> dict:
        """Train; returns the measured fields of `Result`. After the training, only the main process goes on."""
        for logger in self.trainer.loggers:
            logger.start(self.run_info())
            self.started.append(logger)
        status = self.trainer.fit()
        if not self.ranks.main:
            return {"status": status}
        scores = report.scores_by_part(self.trainer.history, self.trainer.parts, list(self.trainer.models()))
        if status == "finished":
            scores["by_class"] = by_class = self.scores_by_class()
            own_images = location_key(self.settings.dataset.node) in self.settings.dataset.node
            if self.settings.scenario or own_images:
                scores["models"] = {
                    name: each.model_copy(update=self.class_scores(name, by_class[name]))
                    for name, each in scores["models"].items()
                }
        return {
            "status": status,
            "bitwise": self.bitwise,
            **scores,
            **self.trainer.summary(),
            "pseudo_labels": report.pseudo_label_scores(self.trainer.history),
            **report.environment(self.device),
            "devices": self.ranks.count,
            "precision": self.precision,
            "compiled": self.compiled,
            "data": report.describe_data(self.data, self.settings),
            **({"duplicates": self.data.duplicates} if self.data.duplicates is not None else {}),
            "split_digest": self.split.digest(),
        }

    def scores_by_class(self) -> dict[str, dict[str, ClassScores]]:
        """The test scores of each class by network."""
        targets, classes = self.data.test.targets, self.data.classes
        logits = {network: self.trainer.logits(network, "test") for network in self.trainer.models()}
        return {network: scores_by_class(each, targets, classes) for network, each in logits.items()}

    def class_scores(self, network: str, by_class: dict[str, ClassScores]) -> dict:
        """Recall by class, balanced accuracy and AUROC of unknown classes of a network: fields of `Scores`."""
        unknown = self.trainer.logits(network, "unknown") if "unknown" in self.trainer.evaluator.parts else None
        return class_scores(by_class, self.trainer.logits(network, "test"), unknown)

    @property
    def deployed(self) -> str:
        """The name of the network to deploy."""
        return list(self.trainer.models())[-1]

    def close(self, status: str, pictures: dict[str, Path], summary: dict) -> None:
        """End the loggers that were started."""
        for logger in self.started:
            logger.log_pictures(pictures)
            logger.finish(status, summary)
