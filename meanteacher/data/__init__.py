"""Images, from files on disk to the augmented batches that a method trains on.

Data flows one way: `datasets`, and for own images `folder`, `table` and `huggingface`, decode images to uint8, `splits`
chooses which are labeled, `loader` moves the batch of a step to the device, `augment` makes its views, and `batches`
hands them to a method as `batch.Labeled` and `batch.Unlabeled`.

This folder imports `meanteacher.config` only. `methods`, `training`, `runs` and what lies above them may import it.
This module and the modules that decode images do not import PyTorch.
"""

from meanteacher.data.images import Dataset, Images

__all__ = ["Dataset", "Images"]
