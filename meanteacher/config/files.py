"""Files: writing in one step, so that no reader ever sees half of one, and the status of regular files."""

import os
import stat
import uuid
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Replace the file at `path` in one step: readers see the old content or the new content, never a part of it.

    The content is first written to a temporary file of this call alone in the same folder, which is removed if writing
    fails. Text is encoded as UTF-8. Returns `path`. Raises an OSError that names `path` if the folder does not exist or
    cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def stat_regular_file(path: str | Path) -> os.stat_result:
    """The status of a file. Raises OSError if it is missing, and ValueError for a device, a pipe and a bad path."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    return status
