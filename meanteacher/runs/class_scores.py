"""Scores beside the error for realistic label sets: recall by class, balanced accuracy, AUROC of unknown classes."""

import numpy as np
from torch import Tensor


def class_scores(logits: Tensor, targets: np.ndarray, classes: list[str], unknown: Tensor | None) -> dict:
    """Fields of `Scores`: balanced accuracy, recall of each class by name, and AUROC of unknown classes, as fractions.

    The AUROC is the probability that the largest softmax probability of a test image of a class without labels is
    smaller than that of a test image of a class with labels (the baseline of Hendrycks & Gimpel 2017, arXiv
    1610.02136). The recall of a class without test images is None.
    logits: float32 [N, K]; targets: int64 [N]; unknown: float32 [M, K], the logits of images of classes without labels,
    or None.
    """
    from sklearn.metrics import recall_score, roc_auc_score

    predicted = logits.argmax(dim=1).cpu().numpy()
    present = set(targets.tolist())
    recalls = recall_score(targets, predicted, labels=range(len(classes)), average=None, zero_division=0)
    scores = {
        "balanced_accuracy": float(np.mean([recalls[c] for c in present])),
        "recall": {name: float(recalls[c]) if c in present else None for c, name in enumerate(classes)},
    }
    if unknown is not None:
        confidence = [part.softmax(dim=1).amax(dim=1).cpu().numpy() for part in (logits, unknown)]
        is_unknown = np.repeat([0, 1], [len(part) for part in confidence])
        scores["auroc_unknown"] = float(roc_auc_score(is_unknown, -np.concatenate(confidence)))
    return scores
