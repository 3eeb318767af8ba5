"""Mean Teacher whose consistency term has a value but no gradient, to measure what a slip of this kind costs.

    PYTHONPATH=scripts/gradient_cut python run.py -m --config-dir scripts/gradient_cut/conf \\
      trusted_packages=gradient_cut experiment=fashion_mnist_cpu seed=0,1,2 \\
      method=supervised,mean_teacher_cut,mean_teacher_strong

USB has had such a slip (microsoft/Semi-supervised-learning, semilearn/algorithms/meanteacher/meanteacher.py):
`train_step` passes the unlabeled images through the student, but takes the student's logits from the output of the
teacher's pass, which is under no_grad. Both sides of the term are then the same logits, so that it is 0 and has no
gradient, and the unlabeled images train nothing. Of the versions that were read, 32d207a (the file of semilearn 0.2.0),
7429eee (0.3.0) and 8b7c8ea have it; 37d7561 (0.3.1 and 0.3.2) does not. Issues 102 and 226 there report it.

Here the term keeps its value, which is logged. Otherwise the method is unchanged: labeled and unlabeled images are one
batch and share batch-norm statistics, where USB's unlabeled images are a batch of their own.
"""

from torch import Tensor

from meanteacher.methods.base import PseudoLabels
from meanteacher.methods.mean_teacher import MeanTeacher


class MeanTeacherCut(MeanTeacher):
    """Mean Teacher with the consistency term cut off from the student."""

    def consistency(self, *arguments: Tensor) -> tuple[Tensor, PseudoLabels]:
        distance, pseudo_labels = super().consistency(*arguments)
        return distance.detach(), pseudo_labels
