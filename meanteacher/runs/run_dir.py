"""The folder a run keeps everything in: one run per folder, one process at a time, nothing deleted."""

import hashlib
import json
import logging
import os
from pathlib import Path

from filelock import FileLock, Timeout

from meanteacher.config.errors import UserError

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]


def source_digest() -> str:
    """10 hexadecimal digits over the package's Python source."""
    found = hashlib.blake2b(digest_size=5)
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def put(path: Path, content: str | bytes) -> Path:
    """Put a file in place whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)
    return path


class RunDir:
    """`with RunDir(...)` holds the folder's lock. `fresh` first renames an existing one to `<name>.old-k`.

    attempt: how many earlier runs were set aside. Raises UserError where another process runs there, where the folder
    holds another run, or where it can't be written. wait: wait for another process instead.
    """

    def __init__(self, path: Path, digest: str, fresh: bool, wait: bool = False):
        self.path, self.digest = path, digest
        lock = path.with_name(path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(lock, timeout=-1 if wait else 0)
            self.lock.acquire()
        except Timeout:
            raise UserError(f"{path}: another process is running this; wait for it, or change seed or output") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another output=") from None
        if fresh and self.result():
            self.set_aside()
        path.mkdir(exist_ok=True)
        self.attempt = len(list(path.parent.glob(f"{path.name}.old-*")))
        self.check()

    def set_aside(self) -> None:
        k = 1
        while (old := self.path.with_name(f"{self.path.name}.old-{k}")).exists():
            k += 1
        os.replace(self.path, old)
        log.info("the earlier run is kept in %s", old)

    def check(self) -> None:
        there = self.result()
        if there and there["digest"] != self.digest:
            raise UserError(f"{self.path}: holds another run ({there['digest']}); choose another folder, or fresh=true")

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *details) -> None:
        self.lock.release()

    def result(self) -> dict | None:
        """result.json's content, or None where there is none."""
        try:
            return json.loads((self.path / "result.json").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}/result.json: cannot be read ({error}); repair or rename the folder") from None

    def write_result(self, result: dict) -> None:
        """Put result.json in place whole."""
        put(self.path / "result.json", json.dumps(result, indent=1) + "\n")
