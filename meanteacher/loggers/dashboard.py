"""The command `meanteacher dashboard --entity TEAM`: makes a saved W&B view, and a report, that compare methods."""

import argparse
import json
import re
from functools import partial
from pathlib import Path

import wandb

from meanteacher.config.errors import UserError, first_line
from meanteacher.config.files import write_atomically
from meanteacher.loggers.dashboard_json import to_json

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ImportError as error:
    MISSING: str | None = str(error)
else:
    MISSING = None

DEPLOYED = ("teacher", "average")
"""The networks that methods are judged by: the teacher, or the averaged weights of a method without one."""

METHOD, LABEL = "choices.method.value", "label.value"
"""The configuration values that runs are grouped by, under W&B's names: the logger writes flat, dotted keys."""

TABLE, ERRORS, COMPARISON = "comparison/table", "comparison/errors", "comparison"
"""The names under which the last run of a sweep logs its table and picture, and the job type of that run."""

GROUPS = 50
"""The largest number of lines or bars in a panel. W&B's default is 10."""

RETRIES = 1
"""Retries of a request to W&B. With the default number, a request without a network takes minutes."""

PROGRAM = "meanteacher dashboard"


def escape(text: str) -> str:
    """Quote a string for a filter. Every character is escaped, because the parser changes `=` and `<` within quotes."""
    return "'" + "".join(f"\\U{ord(character):08x}" for character in text) + "'"


def make_filter(group: str | None, condition: str) -> str:
    """The condition, restricted to the runs of a group unless that is None."""
    return condition + (f" and Group == {escape(group)}" if group else "")


def make_sections() -> dict[str, list]:
    """The panels of each section, by its title.

    Lines and bars are means over the runs of a group, which mostly differ in their seeds, with the standard deviation.
    """
    means = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": GROUPS}
    lines, bars = partial(wr.LinePlot, x="Step", **means), partial(wr.BarPlot, **means)
    deployed, last = " or ".join(DEPLOYED), {name: f"models/{name}/error_last" for name in DEPLOYED}
    return {
        "Test error over steps": [
            lines(title=f"Test error, {deployed}", y=[f"test/{name}/error" for name in DEPLOYED]),
            lines(title="Test error, student", y=["test/student/error"]),
        ],
        "Test error at the last step": [
            bars(title=f"Last test error, {deployed}", metrics=list(last.values())),
            *(
                wr.ScatterPlot(
                    title=f"Last test error by labels, {name}",
                    x=wr.Config("label"),
                    y=wr.SummaryMetric(key),
                    log_x=True,
                )
                for name, key in last.items()
            ),
        ],
        "Validation error over steps": [
            lines(title=f"Validation error, {deployed}", y=[f"validation/{name}/error" for name in DEPLOYED]),
        ],
        "Calibration": [
            lines(title=f"ECE on the test part, {deployed}", y=[f"test/{name}/ece" for name in DEPLOYED]),
            lines(title="ECE on the test part, student", y=["test/student/ece"]),
        ],
        "Training": [
            lines(title="Loss", y=["train/loss"]),
            lines(title="Consistency, before its weight", y=["train/consistency"]),
            lines(title="Images a second", y=["train/images_per_second"]),
            bars(title="Images a second, whole run", metrics=["images_per_second"]),
        ],
    }


def make_comparison_panels() -> list:
    """The table and the picture that the last run of a sweep logs."""
    wide = partial(wr.Layout, w=24, h=12)
    return [
        wr.WeavePanelSummaryTable(table_name=TABLE, layout=wide()),
        wr.MediaBrowser(title="Errors", media_keys=[ERRORS], num_columns=1, layout=wide()),
    ]


def make_title(group: str | None) -> str:
    """The title of a view. W&B accepts no symbols such as `=` in it and, in a report, at most 128 characters."""
    return f"Methods compared: {re.sub(r'[^a-zA-Z0-9_ ,.-]', ' ', group)}"[:128] if group else "Methods compared"


def make_workspace(entity: str, project: str, group: str | None) -> "ws.Workspace":
    """A view of the project's finished runs, or of those of one group, grouped by method and label count."""
    parts = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in make_sections().items()]
    parts.append(ws.Section(name="Comparison", panels=make_comparison_panels(), is_open=True))
    runs = ws.RunsetSettings(
        filters=make_filter(group, "State == 'finished'"),
        groupby=[ws.Config(METHOD), ws.Config(LABEL)],
        pinned_columns=["summary:choices/method", f"config:{LABEL}"]
        + [f"summary:models/{name}/error_last" for name in DEPLOYED],
    )
    return ws.Workspace(entity=entity, project=project, name=make_title(group), sections=parts, runset_settings=runs)


def make_report(entity: str, project: str, group: str | None) -> "wr.Report":
    """A report with the panels of the view under headings. A run set without a project uses that of the report."""
    by = [f"config.{METHOD}", f"config.{LABEL}"]
    finished, of_sweep = make_filter(group, "State == 'finished'"), make_filter(group, f"JobType == '{COMPARISON}'")
    blocks: list = [
        wr.P(
            "Errors are fractions of the test part at the last step, never the smallest of a run. "
            "A line or bar is the mean over the runs of one method and label count, with its standard deviation."
        )
    ]
    for name, panels in make_sections().items():
        runs = wr.Runset(name="Finished runs", filters=finished, groupby=by)
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    runs = wr.Runset(name="Comparisons", filters=of_sweep)
    blocks += [wr.H2("Comparison"), wr.PanelGrid(runsets=[runs], panels=make_comparison_panels())]
    return wr.Report(entity=entity, project=project, title=make_title(group), blocks=blocks, width="fluid")


def save(views: dict[str, "ws.Workspace | wr.Report"]) -> None:
    """Send the views to W&B and print their addresses. Raises UserError without an account, network or permission."""
    try:
        wandb.setup(settings=wandb.Settings(silent=True, mode="online", x_graphql_retry_max=RETRIES))
        if not wandb.login(prompt=False, verify=False):
            raise UserError("there is no W&B account on this machine; run `wandb login`, or add --dry-run FILE")
        for kind, view in views.items():
            print(f"{kind}: {view.save().url}")
    except UserError:
        raise
    except Exception as error:  # wandb-workspaces raises plain Exception
        raise UserError(f"W&B did not accept it: {first_line(error)}") from error


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line. Raises argparse.ArgumentError if that fails."""
    parser = argparse.ArgumentParser(PROGRAM, description=__doc__, exit_on_error=False)
    parser.add_argument("--entity", required=True, help="the W&B team or user that the project belongs to")
    parser.add_argument("--project", default="meanteacher")
    parser.add_argument("--group", help="compare only the runs of this W&B group; the runs of a sweep are one group")
    parser.add_argument("--report", action="store_true", help="also make a report")
    parser.add_argument(
        "--dry-run", type=Path, metavar="FILE", help="write the views to FILE as JSON instead of sending them"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError, argparse.ArgumentError and OSError."""
    args = parse(arguments)
    if MISSING:
        raise UserError(f"{MISSING}; dashboards need wandb-workspaces: pip install -e '.[dashboard]'")
    address = (args.entity, args.project, args.group)
    views = {"workspace": make_workspace(*address)} | ({"report": make_report(*address)} if args.report else {})
    if args.dry_run:
        write_atomically(
            args.dry_run, json.dumps({kind: to_json(view) for kind, view in views.items()}, indent=1) + "\n"
        )
    else:
        save(views)
    return 0
