"""Networks: classifiers that are split into a feature extractor and a head.

This is the public interface for authors of networks: `Network` is the contract, the other names are normalization
layers. Configurations name networks by the module that defines them, for example
`meanteacher.models.wide_resnet.WideResNet`.

This folder imports `meanteacher.config` only. `methods`, `training`, `runs` and what lies above them may import it.
"""

from meanteacher.models.base import Network
from meanteacher.models.batch_norm import MeanOnlyBatchNorm, PSBatchNorm2d, batch_norm_constructor

__all__ = ["MeanOnlyBatchNorm", "Network", "PSBatchNorm2d", "batch_norm_constructor"]
