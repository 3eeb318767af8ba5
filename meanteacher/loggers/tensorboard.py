"""TensorBoard event files in the run folder's `tensorboard`."""

from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.errors import UserError
from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Logger):
    """Scalars under their names, pictures at the last logged step."""

    _writer: "SummaryWriter"
    _step: int

    def start(self, run: RunInfo) -> None:
        """Go on; TensorBoard purges what an earlier attempt logged after `run.start_step`: all, where it is 0."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError(f"logger tensorboard: {error}; install it with `pip install tensorboard`") from error

        self._step = run.start_step
        purge_from = run.start_step + 1 if run.start_step else 0
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge_from)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._step = step
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, paths: dict[str, Path]) -> None:
        import numpy as np
        from PIL import Image

        for name, path in paths.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, pixels, self._step, dataformats="HWC")

    def finish(self, status: str, summary: dict) -> None:
        """Flush and close; status and summary are in result.json."""
        self._writer.close()
