"""The tuning budget of each method: the number of settings, of validation images, and bounds on the selected error.

Settings are counted in the compared runs and in the searches (`sweep=search`) whose folders lie beside them.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from meanteacher.comparison.axes import point_order
from meanteacher.comparison.identity import variant_fields
from meanteacher.comparison.results import Run, planned_runs, read_sweep
from meanteacher.comparison.settings import key
from meanteacher.comparison.tables import Cell, Table, number_cell, point_cell, word_cell
from meanteacher.config.errors import UserError
from meanteacher.runs.result import BASELINE, Result, deployed_network

CONFIDENCE = 0.95

MORE_VALIDATION = "MORE VALIDATION IMAGES THAN LABELS"
"""Marks a choice of settings that was given more labels than the training."""

NO_SEARCH = "no search found"

NOTE = (
    "Settings: those of the compared runs and of the searches beside them, each counted once. The smallest error on "
    "validation images is the error of the setting that a search chooses. Its bounds hold with 95 % confidence for all "
    "of the method's settings at once: Clopper–Pearson intervals with a union bound over the settings. Settings that "
    "were tried elsewhere, as for the values of a recipe, are not known here."
)


class Group(NamedTuple):
    """The runs of a method at one label count that have the same number of validation images."""

    method: str
    label: int | str
    validation: int


Groups = dict[Group, dict[str, list[Result]]]
"""The results of each group, by setting."""


def find_searches(runs: list[Run]) -> list[Run]:
    """The trials of every search in the output folders of these runs. A search that cannot be read is left out."""
    folders = {run.path.resolve().parents[5] for run in runs if len(run.path.resolve().parents) > 5}
    trials = []
    for file in sorted(file for folder in folders for file in folder.glob("sweeps/*/sweep.json")):
        try:
            trials += planned_runs(file.parent) if read_sweep(file.parent).get("search") else []
        except UserError:
            continue
    return trials


def dataset_name(result: Result) -> str | None:
    return (result.settings or {}).get("dataset", {}).get("name")


def count_settings(runs: list[Run]) -> Groups:
    """The settings of each group: those of the compared runs, and of searches of the same methods and data sets."""
    compared = [run.result for run in runs if run.finished]
    known = {(result.method, dataset_name(result)) for result in compared}
    own = {os.path.realpath(run.path) for run in runs}
    more = [run.result for run in find_searches(runs) if run.finished and os.path.realpath(run.path) not in own]
    groups: Groups = {}
    for result in [*compared, *(trial for trial in more if (trial.method, dataset_name(trial)) in known)]:
        group = Group(result.method, result.label, (result.settings or {}).get("validation") or 0)
        groups.setdefault(group, {}).setdefault(key(variant_fields(result)), []).append(result)
    return groups


def smallest_error(settings: dict[str, list[Result]]) -> float | None:
    """The smallest error on validation images of any setting, each a mean over its runs; None without such images."""

    def errors() -> Iterator[float]:
        for results in settings.values():
            network = deployed_network(results)
            values = [r.validation[network].error_last for r in results if network in (r.validation or {})]
            if values:
                yield sum(values) / len(values)

    return min(errors(), default=None)


def error_bounds(error: float, images: int, settings: int) -> tuple[float, float]:
    """Bounds of the true error of a setting with this error on `images`, for the smallest of `settings` errors.

    Clopper–Pearson at level 1 − 0.05 / settings, which covers the true errors of all settings at once with 95 %.
    """
    from scipy.stats import binomtest

    test = binomtest(round(error * images), images)
    interval = test.proportion_ci(1 - (1 - CONFIDENCE) / settings, method="exact")
    return float(interval.low), float(interval.high)


def has_more_validation(group: Group) -> bool:
    return group.label != "all" and group.validation > group.label


def budget_table(groups: Groups) -> Table:
    """A row per method, label count and number of validation images; the baseline comes first."""
    searched = {group.method for group in groups if group.validation}
    rows = []
    for group in sorted(groups, key=lambda g: (g.method != BASELINE, g.method or "", point_order(g.label), g[2])):
        count, error = len(groups[group]), smallest_error(groups[group])
        bounds = Cell("–")
        if error is not None:
            low, high = error_bounds(error, group.validation, count)
            bounds = Cell(f"{100 * low:.1f} to {100 * high:.1f}", high)
        remark = "" if group.method in searched else NO_SEARCH
        if has_more_validation(group):
            remark = MORE_VALIDATION
        cells = [word_cell(group.method), point_cell(group.label), Cell(str(count), count)]
        cells += [Cell(str(group.validation), group.validation), number_cell(error, ".1f", 100), bounds]
        rows.append([*cells, word_cell(remark)])
    columns = ["method", "labels", "settings", "validation images", "smallest error on them (%)", "bounds (%)"]
    return Table("Budget of the choice of settings", [*columns, "remark"], rows, NOTE)


def budget_sentence(groups: Groups) -> str:
    """How many settings each method was given, and marks where that is not equal or took many validation images.

    Empty where no run is finished.
    """
    settings: dict[str, set[str]] = {}
    for group, by_setting in groups.items():
        settings.setdefault(group.method or "unknown", set()).update(by_setting)
    if not settings:
        return ""
    shown = ", ".join(f"{method} {len(tried)}" for method, tried in sorted(settings.items()))
    unequal = " (NOT THE SAME NUMBER)" if len({len(tried) for tried in settings.values()}) > 1 else ""
    larger = f" {MORE_VALIDATION}." if any(map(has_more_validation, groups)) else ""
    return f"Settings per method, in these runs and the searches beside them: {shown}{unequal}.{larger}"
