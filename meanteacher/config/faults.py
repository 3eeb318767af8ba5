"""One-line messages for errors of the operating system and for exhausted memory. Does not import PyTorch."""

import errno
from pathlib import Path

from meanteacher.config.errors import UserError

WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG}
HANDLES = {errno.EMFILE, errno.ENFILE}

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "unable to allocate")
"""What the messages of PyTorch and NumPy contain where no memory is left."""

MEMORY_ADVICE = (
    "not enough memory; lower trainer.labeled_batch, trainer.unlabeled_batch or trainer.eval_batch, use "
    "dataset.storage=mmap, smaller images or a smaller model"
)


def describe_os_error(error: OSError, place: Path | None = None) -> str | None:
    """One line with the file, the reason and what to do; None for errors that have nothing to do with files.

    place: the folder to name where the error names no file.
    """
    where = error.filename or place
    if error.errno in HANDLES:
        return f"{error.strerror}; raise the limit with `ulimit -n 4096`, and rerun the command"
    if where is None or error.errno is None:
        return None
    if error.errno in WRITING:
        return (
            f"{where}: cannot be written ({error.strerror}); make room, or use another output=; then rerun the command"
        )
    if error.errno in ACCESS:
        return f"{where}: cannot be used ({error.strerror}); give access to it, or choose another folder"
    return f"{where}: {error.strerror}; check the path, or choose another one"


def explain(error: BaseException, place: Path) -> BaseException:
    """A UserError that says what to do if a file operation failed or memory ran out; else the error itself."""
    if isinstance(error, OSError) and (text := describe_os_error(error, place)):
        return UserError(text)
    if is_out_of_memory(error):
        return UserError(MEMORY_ADVICE)
    return error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out on the device or the host: in this error, or in one that it was raised from."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY)
        ):
            return True
        error = error.__cause__
    return False
