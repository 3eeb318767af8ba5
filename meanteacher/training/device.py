"""The device, the precision and the compilation of a run, and memory."""

import ctypes
import os
import resource
import sys
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
import torch
from filelock import FileLock, Timeout

from meanteacher.config.errors import UserError
from meanteacher.training.ranks import ALONE, Ranks

COMPILE_STEPS = 2000
"""In shorter runs, compiling takes longer than it saves."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of `mallopt`, from glibc's malloc.h."""

GPU_LOCKS: dict[int, FileLock] = {}
"""The locks of the GPUs that this process holds, by index."""

THREADS = torch.get_num_threads()
"""PyTorch's default number of threads."""


def choose_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device called `name`: `cuda`, `mps`, `cpu`, the first available of these for `auto`, or a GPU for `free`.

    `free` is a GPU for this process alone; see `choose_free_gpu`. Of several processes, each has the GPU of its number.
    Raises UserError if the device is not available.
    """
    if ranks.together and name in ("free", "mps"):
        raise UserError(f"trainer.device={name}: several processes cannot share it; use trainer.device=auto")
    if name == "free":
        return choose_free_gpu()
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device in available if available[device])
    if not available[name]:
        choices = "|".join(device for device in available if available[device])
        raise UserError(f"trainer.device={name}: not available on this machine; use trainer.device={choices}")
    return choose_gpu(ranks) if ranks.together and name == "cuda" else torch.device(name)


def choose_gpu(ranks: Ranks) -> torch.device:
    """The GPU of a process among several. Raises UserError if there are more processes than GPUs."""
    if ranks.local_count > (count := torch.cuda.device_count()):
        raise UserError(f"trainer.devices={ranks.local_count}: this machine has {count} GPUs; use at most as many")
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def choose_free_gpu() -> torch.device:
    """The first GPU that no other process has locked by this function. The lock is held until this process ends.

    All runs of a process use the same GPU. Raises UserError if all GPUs are locked or there are none.
    """
    for index in range(torch.cuda.device_count()):
        name = f"meanteacher-{os.getuid()}-gpu-{torch.cuda.get_device_properties(index).uuid}.lock"
        lock = GPU_LOCKS.get(index) or FileLock(Path(tempfile.gettempdir()) / name, timeout=0)
        try:
            if not lock.is_locked:
                lock.acquire()
        except Timeout:
            continue
        GPU_LOCKS[index] = lock
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    if count := torch.cuda.device_count():
        raise UserError(
            f"trainer.device=free: all {count} GPUs of this machine are in use; start at most {count} runs at a time"
        )
    raise UserError("trainer.device=free: this machine has no GPU; use trainer.device=auto")


def choose_precision(name: str, device: torch.device) -> str:
    """`bf16` or `fp32`; for `auto`, bf16 on hardware that computes in it: GPUs since Ampere, AVX512-BF16 and AMX."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def choose_compile(name: str, device: torch.device, steps: int, divided: bool = False) -> bool:
    """Whether to compile: `always`, `never`, or for `auto` on a GPU in runs of at least `COMPILE_STEPS` steps.

    A step on a CPU is bound by convolutions, which compiling does not change (docs/performance.md). A step whose
    batches are divided (`meanteacher.training.sharding`) is never compiled. Raises UserError if it should be.
    """
    if divided and name == "always":
        raise UserError(
            "trainer.compile=always: with trainer.elastic or several devices, a step is not compiled; use "
            "trainer.compile=auto"
        )
    if divided:
        return False
    return name == "always" or (name == "auto" and device.type == "cuda" and steps >= COMPILE_STEPS)


def prepare(device: torch.device, compiled: bool) -> None:
    """Configure this process: deterministic kernels on a GPU, kept memory on a CPU, and a fresh compiler."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    elif device.type == "cpu":
        keep_freed_memory()
    if compiled:
        torch.compiler.reset()  # earlier runs of this process count toward the limit of recompilations
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._inductor.config.fallback_random = True  # dropout draws the same numbers as in eager mode


def keep_freed_memory() -> None:
    """Make glibc's allocator keep freed memory.

    By default it returns large blocks, such as activations, to the system at once, and every step faults their pages in
    again, which takes a quarter of the step of WRN-28-2.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16. False for releases of PyTorch that cannot tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Automatic mixed precision in bf16, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def total_memory(device: torch.device) -> int:
    """All memory in bytes: of the GPU, or of the machine for cpu and mps."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def free_memory(device: torch.device) -> int:
    """Free memory in bytes: of the GPU, or of the machine for cpu and mps."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: allocated on the GPU, or resident in main memory for cpu and mps."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
