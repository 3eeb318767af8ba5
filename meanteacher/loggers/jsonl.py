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
        """Open the file. In a resumed run, keep its complete lines up to `run.start_step`; else start with an empty file."""
        path = run.folder / "metrics.jsonl"
        lines = _lines_until(path, run.start_step) if run.start_step and path.exists() else []
        write_atomically(path, b"".join(lines))
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")

    def finish(self, status: str, summary: dict) -> None:
        """Close the file. The status and the summary are in result.json."""
        self._file.close()


def _lines_until(path: Path, step: int) -> list[bytes]:
    """The valid lines that were logged up to and including `step`. After a crash, the last line may be incomplete."""
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                lines.append(line)
        except (ValueError, TypeError, KeyError):
            continue
    return lines
