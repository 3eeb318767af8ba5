"""The plain loop: a step as repositories for semi-supervised learning often write it.

It is eager, in fp32 and NCHW, and makes its images one at a time in the workers of a DataLoader.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from meanteacher.benchmark.timing import time_seconds
from meanteacher.config.settings import Settings
from meanteacher.data import Images
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.runs.build import build, build_method
from meanteacher.training.device import choose_device


def build_transform(name: str, size: int, mean: list[float], std: list[float]) -> transforms.Compose:
    """torchvision's counterpart of the view `name` of conf/augment/standard.yaml, for one image."""
    steps = [transforms.RandomCrop(size, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
    operations = {"medium": 1, "strong": 2}.get(name)
    if operations:
        steps.append(transforms.RandAugment(num_ops=operations))
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    if operations:
        steps.append(transforms.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)))
    return transforms.Compose(steps)


class ViewDataset:
    """A map-style data set whose items are (index, target, view, …), with a float32 [C, H, W] view for each name."""

    def __init__(self, images: Images, names: tuple[str, ...], mean: list[float], std: list[float]):
        self.pixels, self.targets = np.ascontiguousarray(images.pixels.transpose(0, 2, 3, 1)), images.targets
        self.transforms = [build_transform(name, self.pixels.shape[1], mean, std) for name in names]

    def __getitem__(self, index: int) -> tuple:
        image = Image.fromarray(self.pixels[index])
        return index, int(self.targets[index]), *(transform(image) for transform in self.transforms)


class Reference:
    """The plain loop with the same method, network, batch and augmentation as this package's step.

    Its EMA is this package's as well: one fused call, so it is no slower than usual.
    """

    def __init__(self, settings: Settings):
        trainer, sgd = settings.trainer, settings.optimizer.node
        self.device = choose_device(trainer.device)
        if trainer.threads:
            torch.set_num_threads(trainer.threads)
        self.data = build(settings.dataset.node)
        self.method = build_method(settings, self.data).to(self.device).train()
        values = {key: sgd[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.method.student.parameters(), **values)
        normalize = build(settings.augment).normalize
        normalize.fit(self.data.train.pixels)
        self.mean, self.std = normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()
        self.labeled_batch, self.unlabeled_batch = trainer.labeled_batch, trainer.unlabeled_batch
        self.label = settings.label

    def load(self, workers: int) -> None:
        """Build endless loaders of labeled and of unlabeled images, with so many workers each."""
        self.workers, views = workers, self.method.views
        self.labeled = self.build_loader(self.label, self.labeled_batch, views.labeled)
        self.unlabeled = self.build_loader(len(self.data.train.targets), self.unlabeled_batch, views.unlabeled)

    def build_loader(self, count: int, batch: int, names: tuple[str, ...]) -> Iterator | None:
        """Random batches of the first `count` images; None if the method asks for no views of them."""
        if not names:
            return None
        rng = np.random.default_rng(0)
        batches = iter(lambda: rng.choice(count, batch).tolist(), None)
        images = ViewDataset(self.data.train, names, self.mean, self.std)
        pin_memory = self.device.type == "cuda"
        return iter(DataLoader(images, batch_sampler=batches, num_workers=self.workers, pin_memory=pin_memory))

    def batches(self) -> tuple[Labeled, Unlabeled]:
        """The next batches, on the device."""
        index, target, *views = (tensor.to(self.device, non_blocking=True) for tensor in next(self.labeled))
        labeled = Labeled(index, tuple(views), target)
        if self.unlabeled is None:
            return labeled, Unlabeled(index[:0], ())
        index, _, *views = (tensor.to(self.device, non_blocking=True) for tensor in next(self.unlabeled))
        return labeled, Unlabeled(index, tuple(views))

    def step(self) -> float:
        """Train one step; returns the loss, for which the host waits."""
        number = torch.zeros((), device=self.device)
        loss: Tensor = self.method.training_step(*self.batches(), number).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.method.after_step(number)
        return loss.item()

    def seconds(self, steps: int) -> float:
        """Seconds per step of a long run.

        Batches that idle workers have prefetched are dropped first, and the steps are rounded up so that each worker
        makes the same number of batches.
        """
        for _ in range(2 * self.workers):
            self.batches()
        self.step()
        steps += -steps % max(self.workers, 1)
        seconds = time_seconds(self.device, lambda: [self.step() for _ in range(steps)]) / steps
        time.sleep(
            2 * self.workers * seconds
        )  # the workers fill their queues, then leave the cores to the next variant
        return seconds
