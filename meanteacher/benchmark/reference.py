"""The plain loop: a method as SSL repositories often train it, eager, in fp32 and NCHW, with images one by one in workers."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from meanteacher.benchmark.timing import timed
from meanteacher.config.settings import Settings
from meanteacher.data import Images
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.runs.build import build, build_method
from meanteacher.training.device import choose_device


def by_pillow(name: str, size: int, mean: list[float], std: list[float]) -> transforms.Compose:
    """torchvision's counterpart of a view of conf/augment/standard.yaml, for one image."""
    crop = transforms.RandomCrop(size, padding=4, padding_mode="reflect")
    steps = [crop, transforms.RandomHorizontalFlip()]
    if name == "strong":
        steps.append(transforms.RandAugment(num_ops=2))
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    if name == "strong":
        steps.append(transforms.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)))
    return transforms.Compose(steps)


class ViewsOfOne:
    """(index, target, view, …) of one image at a time."""

    def __init__(self, images: Images, names: tuple[str, ...], mean: list[float], std: list[float]):
        self.pixels, self.targets = np.ascontiguousarray(images.pixels.transpose(0, 2, 3, 1)), images.targets
        self.transforms = [by_pillow(name, self.pixels.shape[1], mean, std) for name in names]

    def __getitem__(self, index: int) -> tuple:
        image = Image.fromarray(self.pixels[index])
        return index, int(self.targets[index]), *(transform(image) for transform in self.transforms)


class Reference:
    """The same method, network, batch and augmentation as ours. Its EMA is ours: one fused call, so not slower than usual."""

    def __init__(self, settings: Settings):
        keys, sgd = settings.trainer, settings.optimizer.node
        self.device = choose_device(keys.device)
        if keys.threads:
            torch.set_num_threads(keys.threads)
        self.data = build(settings.dataset.node)
        self.method = build_method(self.data, settings).to(self.device).train()
        values = {key: sgd[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.method.student.parameters(), **values)
        norm = build(settings.augment).normalize
        norm.fit(self.data.train.pixels)
        self.norm = norm.mean.flatten().tolist(), norm.std.flatten().tolist()
        self.sizes, self.label = (keys.labeled_batch, keys.unlabeled_batch), settings.label

    def load(self, workers: int) -> None:
        """Loaders without end, so that their workers stay; one for labeled and one for unlabeled images."""
        self.workers, views = workers, self.method.views
        self.labeled = self.loader(self.label, self.sizes[0], views.labeled)
        self.unlabeled = self.loader(len(self.data.train.targets), self.sizes[1], views.unlabeled)

    def loader(self, pool: int, batch: int, names: tuple[str, ...]) -> Iterator | None:
        if not names:
            return None
        rng = np.random.default_rng(0)
        order = iter(lambda: rng.choice(pool, batch).tolist(), None)
        images = ViewsOfOne(self.data.train, names, *self.norm)
        pinned = self.device.type == "cuda"
        return iter(DataLoader(images, batch_sampler=order, num_workers=self.workers, pin_memory=pinned))

    def batches(self) -> tuple[Labeled, Unlabeled]:
        index, target, *views = (tensor.to(self.device, non_blocking=True) for tensor in next(self.labeled))
        labeled = Labeled(index, tuple(views), target)
        if self.unlabeled is None:
            return labeled, Unlabeled(index[:0], ())
        index, _, *views = (tensor.to(self.device, non_blocking=True) for tensor in next(self.unlabeled))
        return labeled, Unlabeled(index, tuple(views))

    def step(self) -> float:
        now = torch.zeros((), device=self.device)
        loss: Tensor = self.method.training_step(*self.batches(), now).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.method.after_step(now)
        return loss.item()

    def seconds(self, steps: int) -> float:
        """Per step, as in a long run: what idle workers made before is dropped; each of them makes as many batches."""
        for _ in range(2 * self.workers):
            self.batches()
        self.step()
        steps += -steps % max(self.workers, 1)
        seconds = timed(self.device, lambda: [self.step() for _ in range(steps)]) / steps
        time.sleep(2 * self.workers * seconds)  # they fill their queues, then leave the cores to what is timed next
        return seconds
