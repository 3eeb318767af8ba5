"""Mean Teacher whose consistency term has a value but no gradient: what a slip of one name makes of the method.

    PYTHONPATH=scripts/gradient_cut python run.py -m --config-dir scripts/gradient_cut/conf \\
      trusted_packages=gradient_cut experiment=fashion_mnist_cpu seed=0,1,2 \\
      method=supervised,mean_teacher_cut,mean_teacher_strong
"""

from torch import Tensor

from meanteacher.methods.base import PseudoLabels
from meanteacher.methods.mean_teacher import MeanTeacher


class MeanTeacherCut(MeanTeacher):
    """Mean Teacher with the consistency term cut off from the student."""

    def consistency(self, *arguments: Tensor) -> tuple[Tensor, PseudoLabels]:
        distance, pseudo_labels = super().consistency(*arguments)
        return distance.detach(), pseudo_labels
