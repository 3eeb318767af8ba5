"""Scores beside the error: recall and precision by class, balanced accuracy, AUROC of unknown classes."""

import numpy as np
from torch import Tensor

from meanteacher.runs.result import ClassScores


def scores_by_class(logits: Tensor, targets: np.ndarray, classes: list[str]) -> dict[str, ClassScores]:
    """The recall and the precision of each class, by name. logits: float32 [N, K]; targets: int64 [N]."""
    counts = confusion_counts(logits.argmax(dim=1).cpu().numpy(), targets, len(classes))
    columns = zip(counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist(), counts.diagonal().tolist(), strict=True)
    return {
        name: ClassScores(
            images=images,
            predicted=predicted,
            correct=correct,
            recall=correct / images if images else None,
            precision=correct / predicted if predicted else None,
        )
        for name, (images, predicted, correct) in zip(classes, columns, strict=True)
    }


def confusion_counts(predicted: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """The number of images of each true class (row) that are predicted as each class (column): int64 [K, K].

    predicted, targets: int64 [N].
    """
    return np.bincount(targets * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_scores(by_class: dict[str, ClassScores], logits: Tensor, unknown: Tensor | None) -> dict:
    """Fields of `Scores`: balanced accuracy, recall of each class by name, and AUROC of unknown classes, as fractions.

    The AUROC is the probability that the largest softmax probability of a test image of a class without labels is
    smaller than that of a test image of a class with labels (the baseline of Hendrycks & Gimpel 2017, arXiv
    1610.02136).
    by_class: from `scores_by_class`; logits: float32 [N, K]; unknown: float32 [M, K], the logits of images of classes
    without labels, or None.
    """
    recalls = {name: scores.recall for name, scores in by_class.items()}
    measured = [recall for recall in recalls.values() if recall is not None]
    scores = {"balanced_accuracy": float(np.mean(measured)), "recall": recalls}
    if unknown is not None:
        from sklearn.metrics import roc_auc_score

        confidence = [part.softmax(dim=1).amax(dim=1).cpu().numpy() for part in (logits, unknown)]
        is_unknown = np.repeat([0, 1], [len(part) for part in confidence])
        scores["auroc_unknown"] = float(roc_auc_score(is_unknown, -np.concatenate(confidence)))
    return scores
