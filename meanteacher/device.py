"""Where and in which precision a run computes."""

import resource
import sys
from contextlib import AbstractContextManager

import psutil
import torch

from meanteacher.errors import UserError


def choose_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu. Raises UserError where the named device is not there."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in found.items() if there)
    if not found[name]:
        raise UserError(
            f"trainer.device={name}: there is none here; use trainer.device={'|'.join(k for k in found if found[k])}"
        )
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware computes in it (a GPU from Ampere on, a CPU with AVX512-BF16 or AMX), else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


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
