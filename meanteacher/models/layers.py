"""The parameters of a network by layer, for learning rates that fall with the distance from the classifier."""

from collections.abc import Iterator

from torch import nn


def split_layers(
    module: nn.Module, containers: tuple[type[nn.Module], ...] = (nn.Sequential,)
) -> list[list[nn.Parameter]]:
    """The parameters of a network from its input to its classifier, one list of `nn.Parameter` per layer.

    The layers are the children in the order of their definition; those of a child whose type is in `containers` (not a
    subclass) take its place. A layer without matrices, such as a normalization, belongs to the layer before it.
    Parameters that belong to no layer, such as a class token, belong to the first.
    """
    layers, loose = [], []
    for part in _leaves(module, containers):
        if isinstance(part, nn.Parameter):
            loose.append(part)
        elif parameters := list(part.parameters()):
            if layers and all(parameter.ndim <= 1 for parameter in parameters):
                layers[-1] += parameters
            else:
                layers.append(parameters)
    first, *others = layers or [[]]
    return [loose + first, *others]


def _leaves(module: nn.Module, containers: tuple[type[nn.Module], ...]) -> Iterator[nn.Module | nn.Parameter]:
    yield from module.parameters(recurse=False)
    for child in module.children():
        if type(child) in containers:
            yield from _leaves(child, containers)
        else:
            yield child
