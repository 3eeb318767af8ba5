"""What a finished run leaves so that it can be used without its images: `inference.json`.

The weights are those of checkpoint.pt. Does not import torch before something is written or read.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meanteacher.config.checksums import checksum
from meanteacher.config.errors import UserError, first_line
from meanteacher.config.files import write_atomically
from meanteacher.config.types import Resize

if TYPE_CHECKING:
    from torch import Tensor

FILE, NORMALIZATION = "inference.json", "normalization.pt"

MOST_VALUES = 1000
"""A normalization of more values, such as the matrix of ZCA, is kept in the file `NORMALIZATION`."""


class Calibration(BaseModel):
    """The confidence of a network in its predictions for the validation images, after temperature scaling.

    The probabilities are softmax(logits / temperature). One entry per validation image: `confidence` is the largest
    probability, `correct` whether its class is the true one, and `true_probability` the probability of the true class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float
    confidence: list[float] = Field(repr=False)
    correct: list[bool] = Field(repr=False)
    true_probability: list[float] = Field(repr=False)

    @classmethod
    def fit(cls, logits: "Tensor", targets: "Tensor") -> Self:
        """Fit the temperature and score the images. logits: float32 [N, K]; targets: int64 [N], N ≥ 1."""
        from meanteacher.training.calibration import fit_temperature, true_probabilities

        logits, targets = logits.cpu(), targets.cpu()
        temperature = fit_temperature(logits, targets)
        confidence, predicted = (probabilities := (logits / temperature).softmax(dim=1)).max(dim=1)
        return cls(
            temperature=temperature,
            confidence=confidence.tolist(),
            correct=(predicted == targets).tolist(),
            true_probability=true_probabilities(probabilities, targets).tolist(),
        )


class Deployment(BaseModel):
    """The content of `inference.json`.

    classes: the names in the order of the logits. image_shape: [C, H, W]. resize: crop | squash | pad, how an image of
    other proportions is brought to it; see `meanteacher.data.decoding.resize_image`. normalization: the tensors of the
    augmentation's normalization as nested lists, or None if they are in `NORMALIZATION`. deployed: the network that is
    used unless another one is asked for. training_images: the number of images in the training part, which sizes some
    methods' buffers. calibration: by network; None without validation images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    digest: str
    classes: list[str]
    image_shape: tuple[int, int, int]
    resize: Resize
    normalization: dict[str, Any] | None
    networks: list[str]
    deployed: str
    training_images: int
    calibration: dict[str, Calibration] | None
    versions: dict[str, str | None]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The deployment of a run folder. Raises UserError if its file is missing, damaged or of a later version.

        A checksum is compared if there is one: files of earlier versions have none.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and content.pop("checksum", None) not in (None, checksum(content)):
                raise UserError(
                    f"{path}: cannot be used (it does not match its checksum, so it was damaged or edited); delete it "
                    'and rerun the command of the run, or remove its "checksum" if it was edited on purpose'
                )
            if isinstance(content, dict) and content.get("schema_version", 1) != 1:
                raise UserError(
                    f"{path}: schema version {content['schema_version']} is unknown to this version of meanteacher; "
                    "upgrade meanteacher"
                )
            return cls.model_validate(content)
        except (OSError, ValueError, ValidationError) as error:
            reason = getattr(error, "strerror", None) or "not written by a run"
            raise UserError(f"{path}: cannot be read ({reason}); delete it and rerun the command of the run") from None

    def write(self, folder: Path) -> None:
        """Write the file. Raises OSError if that is not possible."""
        content = self.model_dump(mode="json")
        write_atomically(folder / FILE, json.dumps({"checksum": checksum(content)} | content) + "\n")

    def load_normalization(self, folder: Path) -> dict[str, "Tensor"]:
        """The tensors of the normalization by name. Raises UserError if their file cannot be read."""
        import torch

        from meanteacher.training.checkpoint import load_verified

        if self.normalization is not None:
            return {name: torch.tensor(values) for name, values in self.normalization.items()}
        try:
            return load_verified(folder / NORMALIZATION, torch.device("cpu"))
        except Exception as error:  # errors of many types for damaged files
            raise UserError(
                f"{folder / NORMALIZATION}: cannot be read ({first_line(error)}); copy it from the original run folder"
            ) from None


def store_normalization(state: dict[str, "Tensor"], folder: Path) -> dict[str, Any] | None:
    """The field `normalization`; many values are written to `NORMALIZATION` instead, atomically."""
    import io

    import torch

    state = {name: values.cpu() for name, values in state.items()}
    if sum(values.numel() for values in state.values()) <= MOST_VALUES:
        return {name: values.tolist() for name, values in state.items()}
    torch.save(state, content := io.BytesIO())
    write_atomically(folder / NORMALIZATION, content.getvalue())
    return None
