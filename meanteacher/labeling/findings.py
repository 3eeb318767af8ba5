"""What the audit of a run finds: suspected label errors, copies, and images that belong to no class."""

from dataclasses import dataclass, field

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.duplicates import Signatures
from meanteacher.labeling import label_errors, outliers
from meanteacher.labeling.run_images import Place, RunImages

LEAST_AGREEMENT = 0.8
"""Where fewer labels than this share are those of most similar images, the findings are said to be doubtful."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An image to look at, and why.

    kind: `label`, a label that is probably wrong; `copy`, of the image `other`; `foreign`, an image of no class.
    suggested: of a label, the class that is more probable. confident: whether confident learning rejects the label;
    True for the other kinds. score: of a label, its out-of-sample probability; of a copy,
    1 for the same pixels and 0 for similar ones; of a foreign image, its distance from the labeled images.
    """

    kind: str
    image: Place
    score: float
    suggested: str = ""
    confident: bool = True
    other: Place | None = None


@dataclass(frozen=True)
class Audit:
    """The findings of a run, of each kind the most suspicious first.

    looked_at: the number of labeled, validation and unlabeled images. notes: sentences about what was not audited.
    """

    findings: list[Finding]
    looked_at: int
    notes: list[str] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]


def audit_run(run: RunImages) -> Audit:
    """Look for label errors among the labeled and validation images, for their copies, and for foreign images.

    Raises UserError if the network has no features, and if fewer than two classes have two labels each.
    """
    network = run.load_network()
    unlabeled = np.setdiff1d(run.split.unlabeled, run.known)
    known_features = run.outputs(network.features, run.known).numpy()
    other_features = run.outputs(network.features, unlabeled).numpy() if len(unlabeled) else known_features[:0]
    errors, notes = find_label_errors(run, known_features)
    foreign = find_foreign(run, known_features, other_features, unlabeled)
    return Audit([*errors, *find_copies(run), *foreign], len(run.known) + len(unlabeled), notes)


def find_label_errors(run: RunImages, features: np.ndarray) -> tuple[list[Finding], list[str]]:
    """Suspected label errors, and notes on what they are worth. features: float32 [N, D] of `run.known`."""
    targets = run.data.train.targets[run.known]
    counts = np.bincount(targets, minlength=len(run.classes))
    enough = np.flatnonzero(counts >= 2)
    if len(enough) < 2:
        raise UserError(f"{run.folder}: fewer than two classes have two labels; label more images before an audit")
    single = [name for name, count in zip(run.classes, counts, strict=True) if count == 1]
    notes = [f"labels not audited because they are the only one of their class: {', '.join(single)}"] if single else []
    rows = np.flatnonzero(np.isin(targets, enough))
    labels = np.searchsorted(enough, targets[rows])
    probabilities = label_errors.neighbor_probabilities(features[rows], labels)
    agreeing = float((probabilities.argmax(axis=1) == labels).mean())
    if agreeing < LEAST_AGREEMENT:
        notes.append(
            f"only {100 * agreeing:.0f} % of the labels are those of most similar images: the network cannot tell the "
            "classes apart well enough, so many of the labels below are right"
        )
    errors = label_errors.find_label_errors(labels, probabilities)
    return [
        Finding(
            kind="label",
            image=run.training_place(run.known[rows[row]]),
            suggested=run.classes[enough[suggested]],
            confident=bool(confident),
            score=float(errors.quality[row]),
        )
        for row, suggested, confident in zip(errors.rows, errors.suggested, errors.confident, strict=True)
    ], notes


def find_foreign(run: RunImages, known: np.ndarray, others: np.ndarray, unlabeled: np.ndarray) -> list[Finding]:
    """Images that are far from all labeled ones. known, others: features of `run.known` and of the unlabeled images."""
    usual = outliers.neighbor_distances(known, known, among=True)
    distances = usual
    if len(others):
        distances = np.concatenate([usual, outliers.neighbor_distances(others, known, among=False)])
    positions = np.concatenate([run.known, unlabeled])
    far = np.flatnonzero(outliers.outside_fence(distances, usual))
    return [
        Finding(kind="foreign", image=run.training_place(positions[row]), score=float(distances[row]))
        for row in far[np.argsort(-distances[far], kind="stable")]
    ]


def find_copies(run: RunImages) -> list[Finding]:
    """Labeled images that are copies of each other or of test images: those with other labels first, then test images.

    Near copies are those of `meanteacher.data.duplicates`.
    """
    known = Signatures.of(run.data.train.pixels, run.known)
    test = Signatures.of(run.data.test.pixels)
    findings = []
    for row, other, exact in copy_pairs(known, known):
        place = run.training_place(run.known[other])
        findings.append(Finding(kind="copy", image=run.training_place(run.known[row]), other=place, score=exact))
    for row, other, exact in copy_pairs(known, test):
        place = run.test_place(other)
        findings.append(Finding(kind="copy", image=run.training_place(run.known[row]), other=place, score=exact))
    return sorted(findings, key=lambda each: (each.image.label == each.other.label, each.other.part != "test"))


def copy_pairs(mine: Signatures, others: Signatures) -> list[tuple[int, int, float]]:
    """Pairs of copies: a row here, a row among the others, and 1 for the same pixels or 0 for similar ones; sorted.

    mine and others may be one object: each pair is then found once. Images with the same pixels are all paired with the
    first of them, and it alone with images that are similar, so that many copies do not give many pairs.
    """
    _, first, group = np.unique(np.concatenate([others.exact, mine.exact]), return_index=True, return_inverse=True)
    leader = first[group[len(others.exact) :]]  # of each image here, the first among the others and these
    exact = [(row, int(other), 1.0) for row, other in enumerate(leader) if other < len(others.exact)]
    distinct = [np.isin(np.arange(len(s.exact)), np.unique(s.exact, return_index=True)[1]) for s in (mine, others)]
    rows, columns = map(np.flatnonzero, distinct)
    pairs = mine.rows(distinct[0]).near_pairs(others.rows(distinct[1]))
    near = {(int(rows[i]), int(columns[j])) for left, right in pairs for i, j in zip(left, right, strict=True)}
    similar = [(row, other, 0.0) for row, other in near if mine.exact[row] != others.exact[other]]
    found = [pair for pair in exact if pair[0] != pair[1]] + [pair for pair in similar if pair[0] < pair[1]]
    return sorted(found if mine is others else exact + similar)
