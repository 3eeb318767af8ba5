"""Names for the ranges of configuration values; used to annotate constructors, checked before anything is loaded.

`meanteacher.config.signatures` reads these annotations from the source of a `_target_`, and pydantic validates the
values of the yaml file against them, so that a wrong value fails in a fraction of a second, without importing torch.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""0 or more; neither infinite nor not-a-number."""

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""More than 0; neither infinite nor not-a-number."""

Imbalance = Annotated[float, Field(ge=1, le=1e9, allow_inf_nan=False)]
"""The ratio of the largest class to the smallest: 1 (balanced) or more."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A probability or a share of the run: 0 to 1."""

Decay = Annotated[float, Field(ge=0, lt=1)]
"""The decay of a running average: 0 (no memory) to below 1."""

Count = Annotated[int, Field(gt=0, lt=2**63)]
"""A number of steps or images that is stored in 64 bits: 1 or more."""

Threads = Annotated[int, Field(gt=0, le=1024)]
"""A number of threads: PyTorch crashes with very many."""

Name = Annotated[str, Field(min_length=1)]
"""A text that is not empty, such as a folder."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""The seed of a random number generator: PyTorch takes 63 bits."""

Resize = Literal["crop", "squash", "pad"]
"""How images that are not square become square; see `meanteacher.data.decoding.resize_image`."""

Warmup = Literal["linear", "sigmoid", "cosine"]
"""The shape of a rise from 0 to 1; see `meanteacher.optim`."""

__all__ = [
    "Annotated",
    "Decay",
    "Fraction",
    "Imbalance",
    "Literal",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "Resize",
    "Seed",
    "Warmup",
]
