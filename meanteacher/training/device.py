"""Where and in which precision a run computes."""

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

COMPILE_STEPS = 2000
"""Shorter runs are over before compiling has paid for itself."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of options in glibc's malloc.h."""

HELD: dict[int, FileLock] = {}
"""The GPU that this process has taken for itself."""


THREADS = torch.get_num_threads()
"""PyTorch's own choice."""


def choose_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu; `free` is a GPU for this process alone. Raises UserError where there is none."""
    if name == "free":
        return free_gpu()
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in found.items() if there)
    if not found[name]:
        raise UserError(
            f"trainer.device={name}: there is none here; use trainer.device={'|'.join(k for k in found if found[k])}"
        )
    return torch.device(name)


def free_gpu() -> torch.device:
    """The first GPU that no other process holds by this function; this process holds it to its end, for all its runs."""
    for index in range(torch.cuda.device_count()):
        name = f"meanteacher-{os.getuid()}-gpu-{torch.cuda.get_device_properties(index).uuid}.lock"
        lock = HELD.get(index) or FileLock(Path(tempfile.gettempdir()) / name, timeout=0)
        try:
            if not lock.is_locked:
                lock.acquire()
        except Timeout:
            continue
        HELD[index] = lock
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    if count := torch.cuda.device_count():
        raise UserError(f"trainer.device=free: all {count} GPUs here are held; run at most {count} at a time")
    raise UserError("trainer.device=free: there is no GPU here; use trainer.device=auto")


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware computes in it (a GPU from Ampere on, a CPU with AVX512-BF16 or AMX), else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def choose_compile(name: str, device: torch.device, steps: int) -> bool:
    """`auto` compiles on a GPU where the run is long enough to pay for it. On a CPU the step is bound by convolutions that
    compiling leaves as they are (docs/performance.md)."""
    return name == "always" or (name == "auto" and device.type == "cuda" and steps >= COMPILE_STEPS)


def prepare(device: torch.device, compiled: bool) -> None:
    """Settings of the process: kernels that give the same bits each time, memory that is kept, and a fresh compiler."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    elif device.type == "cpu":
        keep_memory()
    if compiled:
        torch.compiler.reset()  # an earlier run of this process would count towards the limit of recompilations
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._inductor.config.fallback_random = True  # dropout draws what it draws in eager mode


def keep_memory() -> None:
    """Let glibc keep freed memory. It returns blocks of megabytes at once, as activations are, and each step would fault their
    pages in again: a quarter of WRN-28-2's step."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def cpu_has_bf16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older releases: fp32 there
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device; on cpu and mps those of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process: allocated on a GPU, resident elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
