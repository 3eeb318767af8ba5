"""Measures of a recipe, taken from its composed objects, in the words and units of docs/recipe_facts.

Each function of `MEASURES` computes one fact of the table from the method, schedule, optimizer, network or augmentation
that the recipe builds. Methods get a stand-in student, so that a step takes milliseconds.
"""

import inspect
from functools import cached_property

import torch
from conftest import parsed
from recipe_divisors import measure_divisors
from recipe_stand_ins import COUNTS, Recorder, Scaled, batches, stand_in
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from meanteacher.config.settings import Settings
from meanteacher.methods import EMA, Method
from meanteacher.methods.common.memory_method import MemoryMethod
from meanteacher.models.wide_resnet import WideResNet
from meanteacher.optim.optimizers import LearningRate, build_optimizer
from meanteacher.runs.build import SkipRandomInitialization, build, build_average


class Recipe:
    """A composed recipe and its method around a stand-in student."""

    def __init__(self, name: str):
        self.settings: Settings = parsed(f"experiment={name}")

    @cached_property
    def method(self) -> Method:
        return stand_in(self.settings, Scaled)

    @cached_property
    def ema(self) -> EMA:
        """The teacher, or the average that the trainer keeps."""
        return getattr(self.method, "teacher", None) or build_average(self.method, self.settings.trainer)

    def build_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        chosen = self.settings.optimizer
        return build_optimizer(build(chosen.node), module, lr=chosen.lr, decay_norm_and_bias=chosen.decay_norm_and_bias)


def consistency_weight(recipe: Recipe, steps: list[int]) -> dict[int, float]:
    """λ(s) of the (first) term on unlabeled images, relative to the mean cross-entropy over labeled images."""
    method = recipe.method
    weight = method.weights[0] if hasattr(method, "weights") else method.weight
    ramped = hasattr(method, "ramp") and not isinstance(method, MemoryMethod)  # theirs is of the terms of the bank
    ramp = method.ramp if ramped else lambda step: torch.ones(())
    return {step: weight * ramp(step).item() for step in steps}


def learning_rate(recipe: Recipe, steps: list[int]) -> dict[int, float]:
    optimizer = recipe.build_optimizer(nn.Linear(2, 2))
    rate = LearningRate(optimizer, recipe.settings.optimizer.lr, build(recipe.settings.schedule), torch.device("cpu"))
    values = {}
    for step in steps:
        rate.set(torch.tensor(float(step)))
        values[step] = optimizer.param_groups[0]["lr"].item()
    return values


def decay_of_average(recipe: Recipe, steps: list[int]) -> dict[int, float]:
    """The decay of the update that follows each step."""
    ema = recipe.ema
    return {step: ema.decay_at(torch.tensor(float(step))).item() for step in steps}


def optimizer(recipe: Recipe) -> dict:
    made = recipe.build_optimizer(nn.Linear(2, 2))
    decay = {p.ndim: group["weight_decay"] for group in made.param_groups for p in group["params"]}
    own = {key: made.defaults[key] for key in ("momentum", "nesterov", "betas") if key in made.defaults}
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
    return {"class": type(made).__name__} | own | {"decay of weights": decay[2], "decay of norm and bias": decay[1]}


def steps(recipe: Recipe) -> int:
    return recipe.settings.steps


def schedule(recipe: Recipe) -> str:
    return describe(build(recipe.settings.schedule), skip=("steps",))


def batch(recipe: Recipe) -> dict:
    trainer = recipe.settings.trainer
    return {
        "labeled": trainer.labeled_batch,
        "unlabeled": trainer.unlabeled_batch,
        "labeled images are also unlabeled": recipe.settings.dataset.labeled_in_unlabeled,
    }


def views(recipe: Recipe) -> dict:
    """The views of a step, and the operations of each view in their order."""
    method, augment = recipe.method, build(recipe.settings.augment)
    used = {"labeled": list(method.views.labeled), "unlabeled": list(method.views.unlabeled)}
    for view in dict.fromkeys([*method.views.labeled, *method.views.unlabeled]):
        operations = list(augment.views[view].values())
        after = [o for o in operations if augment.normalize_first or o.after_normalization]
        before = [o for o in operations if o not in after]
        used[view] = [describe(operation) for operation in (*before, augment.normalize, *after)]
    return used


def describe(thing: object, skip: tuple[str, ...] = ()) -> str:
    """`Class(argument=value, …)` with the constructor's arguments as the object holds them."""
    names = [n for n in inspect.signature(type(thing)).parameters if n in vars(thing) and n not in skip]
    values = {name: getattr(thing, name) for name in names}
    texts = [f"{n}={v:.6g}" if isinstance(v, float) else f"{n}={v}" for n, v in values.items()]
    return f"{type(thing).__name__}({', '.join(texts)})"


def passes(recipe: Recipe) -> dict:
    """The passes of one step in their order; each is normalized by its own batch."""
    method = stand_in(recipe.settings, Recorder)
    method.training_step(*batches(method), torch.zeros(()))
    teacher = getattr(method, "teacher", None)
    taught_by = teacher.model if teacher else getattr(method, "tutor", nn.Module())
    parts = {"student": method.student, "teacher": taught_by}
    recorders = {name: [m for m in part.modules() if isinstance(m, Recorder)] for name, part in parts.items()}
    return {
        name: [f"{COUNTS[n]}, {'moves' if moves else 'frozen'}" for recorder in found for n, moves in recorder.passes]
        for name, found in recorders.items()
    }


def average(recipe: Recipe) -> dict:
    """The averaged network, the source of its batch-norm statistics, and the mode in which it predicts targets."""
    ema = recipe.ema
    mode = getattr(ema, "mode", None)
    return {"of": "teacher" if mode else "student, for evaluation", "batch norm": ema.bn, "mode": mode or "–"}


def network(recipe: Recipe) -> dict:
    with SkipRandomInitialization():
        model = build(recipe.settings.model, channels=3, classes=10)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    dropout = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    facts = {"class": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}
    if isinstance(model, WideResNet):
        raw = any(isinstance(block.enter, nn.Identity) for block in model.blocks)
        facts["first blocks of later stages"] = "raw" if raw else "preactivated"
    epsilon = {norm.eps for norm in norms} if isinstance(norms[0], nn.BatchNorm2d) else {"none"}
    (momentum,), (epsilon,) = {norm.momentum for norm in norms}, epsilon
    return facts | {"batch norm momentum": momentum, "batch norm epsilon": epsilon, "dropout": max(dropout, default=0)}


CONSTANTS = {
    "threshold": "threshold",
    "temperature": "temperature",
    "alpha": "alpha",
    "weight_per": "mixing weight drawn per",
    "epsilon": "epsilon",
    "xi": "xi",
    "iterations": "power iterations",
    "entropy_weight": "entropy weight",
    "fairness_weight": "fairness weight",
    "logit_distance_weight": "logit distance weight",
    "decay": "decay of running values",
    "start": "start of running values",
    "n_sigma": "n sigma",
    "uniform_alignment": "uniform alignment",
    "alignment_start": "start of the alignment",
    "clamp_min": "smallest threshold",
    "clamp_max": "largest threshold",
    "marginal": "marginal",
    "weights": "weights",
    "both": "gradient to both sides",
    "tsa": "training signal annealing",
    "factor": "factor of the threshold",
    "gamma": "fall of the threshold",
    "minimum": "smallest threshold",
    "warmup_steps": "steps of warm-up",
    "interval_steps": "steps between falls",
    "low_confidence_weight": "low confidence weight",
    "equivariant": "features pushed apart",
    "map_side": "side of the feature map",
    "smoothing": "smoothing",
    "bank_decay": "decay of the bank",
    "size": "slots of the bank",
    "instance_weight": "instance weight",
    "graph_threshold": "graph threshold",
    "contrast_weight": "contrast weight",
    "mix_threshold": "mix threshold",
    "mix_labeled": "labeled images mixed",
    "alphas": "alphas",
    "class_aware": "share mixed within a class",
    "mix_weight": "mix weight",
    "low_weight": "low weight",
    "rate": "rate of the measured step",
}
"""Further attributes of a method, its weighting, alignment and bank, and their names in the table."""


def constants(recipe: Recipe) -> dict:
    method, held = recipe.method, {}
    for part in (method, *(getattr(method, name, None) for name in ("weighting", "alignment", "bank"))):
        own = vars(part) if part is not None else {}
        held |= {label: own[name] for name, label in CONSTANTS.items() if name in own}
    return {label: list(value) if isinstance(value, tuple) else value for label, value in held.items()}


def divisors(recipe: Recipe) -> dict[str, str]:
    return measure_divisors(recipe.settings)


SCHEDULES = {
    "consistency weight": consistency_weight,
    "learning rate": learning_rate,
    "decay of the average": decay_of_average,
}
"""Measures at six steps of the run."""

MEASURES = {
    "schedule": schedule,
    "steps": steps,
    "optimizer": optimizer,
    "batch": batch,
    "views": views,
    "divisors": divisors,
    "passes": passes,
    "average": average,
    "network": network,
    "constants": constants,
}
