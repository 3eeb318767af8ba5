"""The ways to train that are compared."""

from dataclasses import dataclass

import torch

REFERENCE = "plain loop"


@dataclass(frozen=True)
class Variant:
    """One way to train. precision: `fp32` or `bf16`; compile: `always` or `never`, or None for the plain loop."""

    name: str
    precision: str
    compile: str | None


def list_variants(device: torch.device, precision: str, compile_on_cpu: bool) -> list[Variant]:
    """The plain loop in fp32; ours in fp32 and, if that differs, in `precision`; and ours compiled.

    precision: what the device computes fastest in. On a CPU the compiled variant is included only with
    `compile_on_cpu`.
    """
    variants = [Variant(f"{REFERENCE} fp32", "fp32", None)]
    variants += [Variant(f"ours {name}", name, "never") for name in dict.fromkeys(["fp32", precision])]
    if compile_on_cpu or device.type == "cuda":
        variants.append(Variant(f"ours {precision} compiled", precision, "always"))
    return variants
