"""The stages `accuracy` and `methods`: ordinary runs, as long and as many at once as fits into the budget."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from pieces import ROOT, Piece, Study, read_json
from speed import at_once_result, chosen

from meanteacher.config.composing import compose_overrides, compose_run, run_path
from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically

SEEDS = ["0", "1", "2"]
"""The steps are chosen so that the runs with the first seed fit into the budget."""

EVALUATIONS = 20
"""Evaluations in a run; the median of the last 20 is reported."""

PLANNED = 0.85
"""The part of the budget that the first runs may take by the plan. The rest is for evaluations and other delays."""

FEWEST_STEPS = 100

GUESS = 120
"""Seconds of a run, if the stage `speed` has not measured anything."""


def accuracy(study: Study, overrides: dict[str, str]) -> tuple[list[Piece], int]:
    """Supervised and Mean Teacher with three numbers of labels."""
    return runs(study, overrides, ["supervised", "mean_teacher"], ["4000", "1000", "250"])


def methods(study: Study, overrides: dict[str, str]) -> tuple[list[Piece], int]:
    """Other methods with few labels."""
    return runs(study, overrides, ["fixmatch", "freematch", "softmatch"], ["250"])


def runs(study: Study, overrides: dict[str, str], methods: list[str], labels: list[str]) -> tuple[list[Piece], int]:
    """The runs of a stage, a seed after the other, and how many of them run at once."""
    methods, labels = chosen(overrides, "method", methods), chosen(overrides, "label", labels)
    plan = read_or_make_plan(study, overrides, len(methods) * len(labels))
    steps = int(plan["steps"])
    settings = {
        "model": "wrn_28_2",
        "trainer.device": "cuda",
        "trainer.checkpoint_minutes": "1",
        "logger": "jsonl",
        "eval_every": str(max(1, steps // EVALUATIONS)),
        "output": str(study.out / "runs"),
        **overrides,
        "steps": str(steps),
    }
    pieces = [
        training_run(
            f"{method}-{label}-{seed}",
            f"training/{method}, {steps} steps",
            settings | {"method": method, "label": label, "seed": seed},
            plan["seconds_per_run"],
        )
        for seed in chosen(overrides, "seed", SEEDS)
        for label in labels
        for method in methods
    ]
    return pieces, plan["at_once"]


def training_run(name: str, kind: str, settings: dict[str, str], guess: float) -> Piece:
    """An ordinary run, by the command line. Raises UserError and Hydra's errors for bad settings."""
    overrides = [f"{key}={value}" for key, value in settings.items()]
    with compose_overrides(overrides) as root:
        parsed, choices = compose_run(root, root.hydra)
    folder = Path(settings["output"]) / run_path(parsed, choices)

    def problem() -> str | None:
        status = (read_json(folder / "result.json") or {}).get("status")
        return None if status == "finished" else f"the run is {status}"

    def part_left() -> float:
        *_, last = [{"step": 0}, *read_lines(folder / "metrics.jsonl")]
        return max(0.2, 1 - last["step"] / parsed.steps)  # the start takes time again

    return Piece(name, kind, (str(ROOT / "run.py"), *overrides), guess, folder / "result.json", problem, part_left)


def read_lines(path: Path) -> Iterator[dict]:
    """The lines of a file of JSON objects; none if there is no file, and not one that is half written."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return


def read_or_make_plan(study: Study, overrides: dict[str, str], count: int) -> dict:
    """Steps and seconds of a run and how many run at once: of DIR/training.json, or for `count` runs in the budget.

    The override `steps=` goes before the file. Raises UserError if there is nothing to plan with.
    """
    path = study.out / "training.json"
    plan, measured = read_json(path), read_json(at_once_result(study))
    if "steps" in overrides:
        plan = plan or {"at_once": fastest(measured) if measured else 1}
        return plan | {"steps": overrides["steps"], "seconds_per_run": GUESS}
    if plan is None:
        if measured is None:
            raise UserError(f"{at_once_result(study)}: is missing; run the stage speed first, or choose steps=")
        plan = make_plan(measured, count, PLANNED * study.seconds_left)
        write_atomically(path, json.dumps(plan, indent=1) + "\n")
    return plan


def fastest(measured: dict) -> int:
    """How many runs at once give the most images per second."""
    return int(max(measured["images_per_second"], key=measured["images_per_second"].get))


def make_plan(measured: dict, count: int, seconds: float) -> dict:
    """The plan with the most steps for `count` runs in so many seconds. Raises UserError if that is too little time."""
    plans = []
    for at_once, speed in measured["images_per_second"].items():
        per_step = int(at_once) * measured["images_per_step"] / speed
        per_run = seconds / math.ceil(count / int(at_once))
        steps = int((per_run - measured["start_seconds"]) / per_step)
        plans.append({"steps": steps, "at_once": int(at_once), "seconds_per_run": per_run})
    best = max(plans, key=lambda plan: plan["steps"])
    if best["steps"] < FEWEST_STEPS:
        raise UserError(f"{count} runs of {FEWEST_STEPS} steps do not fit into the budget; give a larger --budget")
    digits = len(str(best["steps"])) - 2
    return best | {"steps": best["steps"] // 10**digits * 10**digits}
