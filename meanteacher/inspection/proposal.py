"""The command to start with, and the reason for each of its settings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meanteacher.data.splits import apportion
from meanteacher.inspection.findings import Findings
from meanteacher.inspection.quoting import join_command, quote_value
from meanteacher.inspection.timing import Speed
from meanteacher.inspection.weights import CachedWeights

EVALUATIONS, EVALUATING = (20, 10, 5), 0.2
"""Numbers of evaluations of a run: the first that takes at most this share of the time, or else the last. The median of
the last 20 is reported."""

STEPS = 500, 20_000
"""The fewest and the most steps that are proposed."""

IMBALANCED = 2
"""From this ratio of the largest class to the smallest on, all classes are drawn equally often."""

MOST_SIMILAR = 0.1
"""Where a larger share of the training images looks like test images, these are taken to be similar, not copies."""

MANY_ELONGATED = 0.1
"""From this share of images that lose half of themselves when cropped on, images are padded instead."""

VALIDATION = 10, 1_000
"""One label in this many is held out for validation, and at most this many labels."""

VALIDATION_OF_FEW = 5, 30
"""With few labels, at most one in this many is held out, up to this many images: enough to choose thresholds on."""

CPU_SIZE, SIZES = 32, (32, 64, 96)
"""Image sizes for training from scratch on a CPU and on a GPU, in pixels."""

TRANSFER_CPU_SIZE = 128
"""The largest image size for a start from trained weights on a CPU, in pixels."""


@dataclass(frozen=True)
class Setting:
    """Overrides that belong together, as Hydra reads them, and why they are proposed."""

    overrides: dict[str, str]
    reason: str

    @property
    def text(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.overrides.items())


@dataclass(frozen=True)
class Proposal:
    """A run to start with. image_size: in pixels; seconds: about how long its steps take on this machine."""

    settings: list[Setting]
    image_size: int
    steps: int
    seconds: float

    @property
    def overrides(self) -> dict[str, str]:
        return {key: value for setting in self.settings for key, value in setting.overrides.items()}

    @property
    def command(self) -> str:
        return join_command(self.overrides)


def propose(
    findings: Findings,
    *,
    on_gpu: bool,
    weights: CachedWeights | None,
    image_size: int | None,
    minutes: float,
    measure_speed: Callable[..., Speed],
) -> Proposal:
    """Choose the settings of a first run.

    weights: trained weights to start from, or None to start from scratch. image_size: the user's choice in pixels, or
    None. minutes: how long training should take. measure_speed: as `timing.measure_speed`.
    """
    network = choose_network(findings, on_gpu=on_gpu, weights=weights, image_size=image_size)
    size = int(network[0].overrides["dataset.image_size"])
    training = [*network[1:], *choose_method(findings, on_gpu, network)]
    overrides = {key: value for setting in training for key, value in setting.overrides.items()}
    speed = measure_speed(overrides, classes=len(findings.source.classes), image_size=size)
    validation = choose_validation(findings)
    evaluated = int(findings.counts["test"].sum()) + int(validation.overrides["validation"])
    available = minutes * 60
    affordable = [n for n in EVALUATIONS if speed.run_seconds(0, n, evaluated) <= EVALUATING * available]
    evaluations = (affordable or EVALUATIONS[-1:])[0]
    steps = round_steps((available - speed.run_seconds(0, evaluations, evaluated)) / speed.step)
    seconds = speed.run_seconds(steps, evaluations, evaluated)
    length = Setting(
        {"steps": str(steps), "eval_every": str(-(-steps // evaluations))},
        f"as many as fit into about {minutes:g} minutes, between {STEPS[0]:,} and {STEPS[1]:,}; more steps mostly help",
    )
    data = [*choose_data(findings), network[0], Setting({"label": "all"}, "every label is used"), validation]
    return Proposal([*data, *training, length], size, steps, seconds)


def round_steps(steps: float) -> int:
    """At most this many steps within `STEPS`, rounded down: 500, 550, 600, …, 1000, 1500, 2000."""
    steps = min(max(steps, STEPS[0]), STEPS[1])
    unit = 10 ** (len(str(int(steps))) - 1) // 2
    return int(steps // unit * unit)


def choose_data(findings: Findings) -> list[Setting]:
    """Where the images are, and which of them are left out or padded."""
    source = findings.source
    where = {key: quote_value(value) for key, value in source.overrides.items()}
    settings = [Setting(where, f"your {len(source.files):,} images")]
    if findings.broken:
        reason = f"files that cannot be read: {len(findings.broken):,}; left out, and listed in split.json"
        settings.append(Setting({"dataset.broken": "skip"}, reason))
    if findings.elongated > MANY_ELONGATED:
        reason = (
            f"images that would lose more than half of themselves by cropping to a square: {findings.elongated:.0%}"
        )
        settings.append(Setting({"dataset.resize": "pad"}, reason))
    exact, near = (sum(findings.copy_counts[part, "test"][kind] for part in ("train", "unlabeled")) for kind in (0, 1))
    few = near <= MOST_SIMILAR * (len(source.files) - findings.counts["test"].sum())
    if exact or (near and few):
        reason = f"training images that are copies of test images: {near if few else exact:,}; they flatter the error"
        settings.append(Setting({"dataset.exclude_duplicates": "near" if few else "exact"}, reason))
    return settings


def choose_network(
    findings: Findings, *, on_gpu: bool, weights: CachedWeights | None, image_size: int | None
) -> list[Setting]:
    """The image size, then the network."""
    if weights is not None:
        fitting = weights.image_size if on_gpu or weights.fixed else min(weights.image_size, TRANSFER_CPU_SIZE)
        size = image_size or fitting
        name = {"model": "timm", "model.name": quote_value(weights.name), "model.weights": "pretrained"}
        train = Setting({"model.train": "all"}, "every layer is fine-tuned")
        if not on_gpu:
            train = Setting(
                {"model.train": "probe"}, "the last layer alone, because every layer takes long without a GPU"
            )
        return [
            Setting({"dataset.image_size": str(size)}, f"{weights.name} was trained at {weights.image_size} pixels"),
            Setting(
                name, "its trained weights are in the cache of this machine; better than from scratch with few labels"
            ),
            train,
        ]
    shorter = int(np.median(findings.shorter_sides))
    reason = f"half of the images have a shorter side of at most {shorter} pixels"
    if on_gpu:
        size = image_size or max(size for size in SIZES if size <= max(shorter, SIZES[0]))
        model = Setting(
            {"model": "wrn_37_2" if size >= 96 else "wrn_28_2"}, "from scratch on a GPU, for this image size"
        )
    else:
        size = image_size or CPU_SIZE
        reason = f"small, because there is no GPU: twice the side takes four times as long; the median is {shorter}"
        model = Setting({"model": "wrn_10_1"}, "the smallest network, from scratch and without a GPU")
    if image_size:
        reason = "chosen with --image-size"
    statistics = Setting({"model.bn_momentum": "0.05"}, "a run this short needs running statistics that move faster")
    return [Setting({"dataset.image_size": str(size)}, reason), model, statistics]


def choose_method(findings: Findings, on_gpu: bool, network: list[Setting]) -> list[Setting]:
    """The method, its batches and the optimizer. network: of `choose_network`."""
    labeled, unlabeled = (64, 192) if on_gpu else (16, 48)
    settings = [
        Setting({"method": "freematch", "method.weighting.decay": "0.99"}, "learns from the unlabeled images"),
        Setting({"augment": "standard"}, "mirrors images; use augment=digits for writing and signs, which does not"),
        choose_learning_rate(network),
        Setting(
            {"trainer.labeled_batch": str(labeled), "trainer.unlabeled_batch": str(unlabeled)},
            "images per step" + ("" if on_gpu else "; few, because each step is slow without a GPU"),
        ),
        Setting({"trainer.average_decay": "0.99"}, "an average over the last 100 steps, since the run is short"),
        *([] if on_gpu else [Setting({"trainer.threads": "1"}, "more threads hardly help a network this small")]),
        Setting({"logger": "jsonl"}, "logs to the run folder alone; leave it out to log to W&B too"),
    ]
    if not findings.counts["unlabeled"].any():
        settings[0] = Setting(
            {"method": "supervised"}, "there are no unlabeled images for another method to learn from"
        )
    if findings.imbalance >= IMBALANCED:
        counts = findings.counts["train"]
        reason = f"the classes have {counts.min():,} to {counts.max():,} labels; steps draw all classes equally often"
        settings.append(Setting({"trainer.labeled_sampling": "balanced"}, reason))
    return settings


def choose_learning_rate(network: list[Setting]) -> Setting:
    """The learning rate, by what is trained."""
    if network[-1].overrides.get("model.train") == "all":
        rates = {"optimizer.lr": "0.01", "optimizer.layer_decay": "0.75"}
        return Setting(rates, "pretrained layers need smaller steps, the first ones the smallest")
    return Setting({"optimizer.lr": "0.1"}, "higher than usual, because the run is short")


def choose_validation(findings: Findings) -> Setting:
    """How many labeled images are held out of training, at most so many that every class keeps some."""
    counts, labels = findings.counts["train"], findings.labels
    (part, most), (part_of_few, least) = VALIDATION, VALIDATION_OF_FEW
    held_out = min(max(labels // part, min(labels // part_of_few, least)), most)
    if held_out and (apportion(counts, held_out) < counts).all():
        return Setting({"validation": str(held_out)}, "labels held out, to calibrate probabilities and thresholds on")
    return Setting({"validation": "0"}, "there are too few labels to hold any out, so probabilities are not calibrated")
