"""The images of a run to label next: candidates, what the run's networks say of them, and a strategy's choice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.data.duplicates import exact_hashes
from meanteacher.inference import load
from meanteacher.labeling.run_images import RunImages
from meanteacher.labeling.selection import STRATEGIES


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The images to label next, the first one first.

    positions: int64 [n], of training images; scores: float64 [n], of the strategy `by`; probabilities: float64 [n, K],
    the deployed network's. candidates: how many images were chosen from; duplicates: how many others were left out
    because an image with the same pixels has a label or is a candidate.
    """

    by: str
    positions: np.ndarray
    scores: np.ndarray
    probabilities: Tensor
    candidates: int
    duplicates: int


class NetworkPool:
    """A `selection.Pool` that computes what a strategy asks for."""

    def __init__(self, run: RunImages, positions: np.ndarray):
        self.run, self.positions = run, positions
        self.seed = run.settings.seed + len(run.split.labeled)
        self.deployed = run.load_network()

    @cached_property
    def teacher(self) -> Tensor:
        return self.run.outputs(self.deployed.probabilities, self.positions).double()

    @cached_property
    def student(self) -> Tensor:
        name = self.deployed.networks[0]
        if name == self.deployed.network:
            raise UserError(f"{self.run.folder}: has one network only, so there is no disagreement; use --by margin")
        return self.run.outputs(load(self.run.folder, name).probabilities, self.positions).double()

    @cached_property
    def features(self) -> Tensor:
        return self.run.outputs(self.deployed.features, self.positions)

    @cached_property
    def labeled_features(self) -> Tensor:
        return self.run.outputs(self.deployed.features, self.run.split.labeled)


def find_candidates(run: RunImages) -> tuple[np.ndarray, int]:
    """The unlabeled images of the run that may be chosen, int64 and sorted, and how many duplicates were left out.

    Left out are images with the same pixels as a labeled or validation image, and all but the first of those that are
    equal to each other.
    """
    unlabeled = np.setdiff1d(run.split.unlabeled, run.known)
    hashes, known = (exact_hashes(run.data.train.pixels, positions) for positions in (unlabeled, run.known))
    distinct, first = np.unique(hashes, return_index=True)
    candidates = np.sort(unlabeled[first[~np.isin(distinct, known)]])
    return candidates, len(unlabeled) - len(candidates)


def choose_next(run: RunImages, count: int, by: str) -> Choice:
    """The `count` images of the run to label next, or all candidates where there are fewer. by: of `STRATEGIES`.

    Raises UserError if every image has a label, and if the strategy needs what the run's networks do not have.
    """
    candidates, duplicates = find_candidates(run)
    if not len(candidates):
        raise UserError(f"{run.folder}: there is no unlabeled image left to label")
    pool = NetworkPool(run, candidates)
    ranking = STRATEGIES[by](pool, min(count, len(candidates)))
    return Choice(
        by=by,
        positions=candidates[ranking.positions],
        scores=ranking.scores,
        probabilities=pool.teacher[ranking.positions],
        candidates=len(candidates),
        duplicates=duplicates,
    )
