"""Writes `metrics.jsonl` into the run folder, one line per call of `log`, for other programs to read."""

import json
import math
from pathlib import Path
from typing import TextIO

from meanteacher.config.files import write_atomically
from meanteacher.loggers import Logger, RunInfo


class Jsonl(Logger):
    """Each line is `{"step": …, **metrics}` and is flushed immediately. NaN and infinity are written as null."""

    _file: TextIO

    def start(self, run: RunInfo) -> None:
        """Open the file. A resumed run keeps its complete lines up to `run.start_step`; any other starts empty.

        Where lines are missing, all are written again from `run.history`, which has no speeds.
        """
        path = run.folder / "metrics.jsonl"
        lines = _lines_until(path, run.start_step) if run.start_step and path.exists() else []
        if len(lines) < len(run.history):
            lines = [_line(record).encode() for record in run.history]
        write_atomically(path, b"".join(lines))
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._file.write(_line({"step": step, **metrics}))

    def finish(self, status: str, summary: dict) -> None:
        """Close the file. The status and the summary are in result.json."""
        self._file.close()


def _line(record: dict[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _lines_until(path: Path, step: int) -> list[bytes]:
    """The valid lines that were logged up to and including `step`. After a crash, the last line may be incomplete."""
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                lines.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return lines
