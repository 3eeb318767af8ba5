"""Data flows one way: datasets (disk to uint8) → splits → loader → augment → a method's views."""

from meanteacher.data.images import Dataset, Images

__all__ = ["Dataset", "Images"]
