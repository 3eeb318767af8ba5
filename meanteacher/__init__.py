"""Semi-supervised image classification around Mean Teacher: methods, splits, training and honest reports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meanteacher.inference import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first used: it needs PyTorch, which takes seconds to import."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from meanteacher.inference import load

    return load
