"""The program of a process that `meanteacher.runs.devices` has started."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from meanteacher.config.console import log_to_console
from meanteacher.config.errors import LostProcess, UserError
from meanteacher.runs.devices import Job, take_part
from meanteacher.training.ranks import Ranks


def main(folder: Path, rank: int, count: int) -> int:
    """Take part in the run that `folder` describes; returns the exit status."""
    threading.Thread(target=stop_without_parent, daemon=True).start()
    job = Job.from_json((folder / "job.json").read_text(encoding="utf-8"))
    log_to_console(logging.CRITICAL if rank else logging.ERROR if job.swept else logging.INFO)
    ranks = Ranks(rank, count, rank, count)
    try:
        with ranks.connected(f"file://{folder}/store"):
            take_part(job, ranks)
    except LostProcess:
        return 1
    except KeyboardInterrupt:
        return 130
    except (UserError, OSError) as error:
        (folder / f"error-{rank}").write_text(str(error), encoding="utf-8")
        return 1
    return 0


def stop_without_parent() -> None:
    """Stop this process when the one that started it ends, and with it standard input."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    logging.shutdown()
    if status:
        os._exit(status)  # otherwise, closing a connection that is in use takes several seconds
