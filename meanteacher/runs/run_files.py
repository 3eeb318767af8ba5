"""The files that a finished run leaves: what is needed to use it, its pictures and its page."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.runs import report
from meanteacher.runs.deployment import FILE, Calibration, Deployment, store_normalization
from meanteacher.runs.pictures import draw_pictures, drawn
from meanteacher.runs.result import Result
from meanteacher.runs.session import Session
from meanteacher.training.checkpoint import CURRENT

PAGE = "report.html"


def missing_files(path: Path) -> list[str]:
    """The files that a run of this version leaves but the directory of a finished run lacks."""
    return [name for name in ("split.json", "metrics.jsonl", FILE, PAGE, CURRENT) if not (path / name).exists()]


def restore_files(session: Session, result: Result, missing: list[str]) -> None:
    """Write the files in `missing` that the last checkpoint determines. The session has already written split.json.

    Raises UserError if that checkpoint is missing, or if the split of the settings is no longer the one of the result.
    """
    path = session.run_dir.path
    if result.split_digest not in (None, session.split.digest()):
        if "split.json" in missing:
            (path / "split.json").unlink()
        raise UserError("its settings choose other labeled images now")
    if session.trainer.step < session.settings.steps:
        raise UserError("its last checkpoint is missing")
    if "metrics.jsonl" in missing:
        records = Jsonl()
        records.start(session.run_info())
        records.finish(result.status, {})
    if FILE in missing or PAGE in missing:
        write_files(session, result.replace(by_class=session.scores_by_class()))


def write_files(session: Session, result: Result) -> dict[str, Path]:
    """Write the files of a finished run; returns the paths of the pictures by name.

    result: including the scores by class. Raises OSError if a file cannot be written; a rerun of the command writes it.
    """
    write_deployment(session)
    pictures = draw(session)
    drawn(lambda path: write_page(session, result, path), session.run_dir.path / PAGE)
    return pictures


def title_of(session: Session) -> str:
    labels = len(session.split.labeled)
    return f"{session.choices.method} on {session.data.name}, {labels} labels, seed {session.settings.seed}"


def draw(session: Session) -> dict[str, Path]:
    """Draw the pictures of a run into plots/, and warn of each that cannot be drawn; returns their paths by name."""
    return draw_pictures(
        session.run_dir.path / "plots",
        title=title_of(session),
        data=session.data,
        labeled=session.split.labeled,
        history=session.trainer.history,
        network=session.deployed,
        predictions=session.trainer.logits(session.deployed, "test").argmax(dim=1).numpy(),
        draw_views=lambda images: draw_views(session, images),
    )


def write_deployment(session: Session) -> None:
    """Write what is needed to use the run without its images. Raises OSError if that is not possible."""
    folder, networks, data = session.run_dir.path, list(session.trainer.models()), session.data
    Deployment(
        digest=session.run_dir.digest,
        classes=data.classes,
        image_shape=data.train.pixels.shape[1:],
        resize=session.settings.dataset.node.get("resize", "crop"),
        normalization=store_normalization(session.augment.normalize.state_dict(), folder),
        networks=networks,
        deployed=session.deployed,
        training_images=len(data.train.targets),
        calibration=calibrate(session),
        versions=report.versions(),
    ).write(folder)


def calibrate(session: Session) -> dict[str, Calibration] | None:
    """The calibration of each network by name; None without validation images."""
    if not len(session.split.validation):
        return None
    return {name: Calibration.fit(*on_validation(session, name)) for name in session.trainer.models()}


def on_validation(session: Session, network: str) -> tuple[Tensor, Tensor]:
    """The logits of a network for the validation images, float32 [N, K], and their targets, int64 [N], on the host."""
    return session.trainer.logits(network, "validation"), session.trainer.evaluator.parts["validation"].targets.cpu()


def draw_views(session: Session, images: np.ndarray) -> dict[str, np.ndarray]:
    """Each view of the augmentation, drawn three times. images: uint8 [N, C, H, W]; views: float32, normalized."""
    pixels = torch.from_numpy(images).to(session.device)
    return {
        f"{name} {number}": view.cpu().numpy()
        for name in session.augment.views
        for number, view in enumerate(session.batches.augmented(pixels, (name,) * 3), 1)
    }


def write_page(session: Session, result: Result, path: Path) -> None:
    """Write the page of the run."""
    from meanteacher.runs.run_page import Evidence, write_run_page

    network = session.deployed
    evidence = Evidence(
        title=title_of(session),
        result=result,
        data=session.data,
        split=session.split,
        history=session.trainer.history,
        network=network,
        logits=session.trainer.logits(network, "test"),
        validation=on_validation(session, network) if len(session.split.validation) else None,
    )
    write_run_page(path, evidence)
