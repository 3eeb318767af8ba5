"""What a run that starts from trained weights does with them: their normalization and learning rates by layer."""

import logging

from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.config.settings import OptimizerSettings
from meanteacher.data.augment import Augment, Normalize
from meanteacher.methods.base import Method
from meanteacher.models import Network
from meanteacher.models.weights import WeightsInput

log = logging.getLogger(__name__)


def lr_scales(method: Method, optimizer: OptimizerSettings) -> dict[nn.Parameter, float]:
    """The factor of the learning rate of each parameter of a method; empty if all are 1.

    The d-th layer of a network before its last one has `layer_decay`ᵈ (Bao et al. 2022, arXiv 2106.08254, fine-tune
    BEiT so). Its last layer, and layers that a method adds, have `head_lr_scale`. Raises UserError if the method has no
    `Network`, whose `layers` this needs.
    """
    decay, head = optimizer.layer_decay, optimizer.head_lr_scale
    if decay == head == 1:
        return {}
    networks = [module for module in method.modules() if isinstance(module, Network)]
    if not networks:
        raise UserError("optimizer.layer_decay needs a network that is a meanteacher.models.Network; use 1.0")
    scales = dict.fromkeys(method.parameters(), head)
    for network in networks:
        for depth, layer in enumerate(reversed(network.layer_parameters())):
            scales |= dict.fromkeys(layer, decay**depth if depth else head)
    return scales


def find_weights_input(method: Method) -> WeightsInput | None:
    """How images must be normalized for the weights of the student; None without weights, or for the data's own."""
    return getattr(method.eval_models()["student"], "weights_input", None)


def normalize_as_weights(augment: Augment, method: Method) -> None:
    """Normalize images by the mean and std that the student's weights were trained with, if any.

    Another normalization than `Normalize` stays as it was chosen.
    """
    expected = find_weights_input(method)
    if expected is not None and isinstance(augment.normalize, Normalize):
        augment.normalize.set(expected.mean, expected.std)


def log_weights(augment: Augment, method: Method, size: tuple[int, int]) -> None:
    """Log the weights that the student starts from, their normalization and their image size. size: of the images."""
    expected = find_weights_input(method)
    if expected is None:
        return
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (expected.mean, expected.std))
    trained, given = ("×".join(map(str, pixels)) for pixels in (expected.size, size))
    note = "" if trained == given else f", which were of {trained}; these are of {given}"
    log.info("weights %s, trained on images with mean (%s) and std (%s)%s", expected.name, mean, std, note)
    if isinstance(augment.normalize, Normalize):
        log.info("        images are normalized by this mean and std; model.normalization=data uses the data's own")
    else:
        kind = type(augment.normalize).__name__
        log.warning("        the augmentation normalizes by %s instead; augment=standard uses mean and std", kind)
