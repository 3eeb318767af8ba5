"""`metrics.jsonl` in the run folder: one line per log call, the record that other tools read."""

import json
import math
import os
from pathlib import Path
from typing import TextIO

from meanteacher.loggers import Logger, RunInfo


class Jsonl(Logger):
    """Each line is `{"step": …, **metrics}`, flushed when written; NaN and infinity become null."""

    _file: TextIO

    def start(self, run: RunInfo) -> None:
        """Open the file, keeping the complete lines up to `run.start_step`; none where that is 0."""
        path = run.folder / "metrics.jsonl"
        kept = _lines_until(path, run.start_step) if run.start_step and path.exists() else []
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(b"".join(kept))
        os.replace(fresh, path)
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")

    def finish(self, status: str, summary: dict) -> None:
        """Close the file; status and summary are in result.json."""
        self._file.close()


def _lines_until(path: Path, step: int) -> list[bytes]:
    """The whole, valid lines of `path` that were logged at or before `step`; a killed run may leave half a line."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            continue
    return kept
