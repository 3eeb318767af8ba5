"""Writes TensorBoard event files into the folder `tensorboard` of the run folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.errors import UserError
from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Logger):
    """Records metrics as scalars, and pictures at the last logged step."""

    _writer: "SummaryWriter"
    _step: int

    def start(self, run: RunInfo) -> None:
        """Open the event file. TensorBoard hides what earlier attempts logged after `run.start_step`.

        Raises UserError if TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError(f"logger tensorboard: {error}; install it with `pip install tensorboard`") from error

        self._step = run.start_step
        purge_step = run.start_step + 1 if run.start_step else 0
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge_step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._step = step
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def log_pictures(self, paths: dict[str, Path]) -> None:
        import numpy as np
        from PIL import Image

        for name, path in paths.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, pixels, self._step, dataformats="HWC")

    def finish(self, status: str, summary: dict) -> None:
        """Flush and close the event file. The status and the summary are in result.json."""
        self._writer.close()
