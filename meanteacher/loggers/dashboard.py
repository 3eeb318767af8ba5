"""Makes a saved W&B view, and a report, that compare methods: `meanteacher dashboard --entity TEAM`."""

import argparse
import json
import re
from functools import partial
from pathlib import Path

import wandb

from meanteacher.config.errors import UserError

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ImportError as error:
    MISSING: str | None = str(error)
else:
    MISSING = None

DEPLOYED = ("teacher", "average")
"""The network that a method is judged by: the teacher, or the averaged weights of a method without one."""

METHOD, LABEL = "choices.method.value", "label.value"
"""What runs are grouped by, as W&B names it: the logger writes the configuration flat, under dotted keys."""

TABLE, ERRORS, COMPARISON = "comparison/table", "comparison/errors", "comparison"
"""What the run that sums up a sweep logs, and its job type."""

GROUPS = 50
"""Most lines or bars in a panel. By default W&B shows ten."""

RETRIES = 1
"""Of a request to W&B. By default it tries for minutes."""

PROGRAM = "meanteacher dashboard"


def literal(text: str) -> str:
    """A string in a filter. All of it is escaped: the parser doubles `=` and changes `<` within quotes too."""
    return "'" + "".join(f"\\U{ord(character):08x}" for character in text) + "'"


def filters(group: str | None, condition: str) -> str:
    """The condition, for one group's runs where a group is given."""
    return condition + (f" and Group == {literal(group)}" if group else "")


def sections() -> dict[str, list]:
    """Titles and the panels below each. Lines are means over a group's runs, mostly seeds, with their deviation."""
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


def comparison() -> list:
    """What a sweep's last run logs: the table of methods and its pictures."""
    wide = partial(wr.Layout, w=24, h=12)
    return [
        wr.WeavePanelSummaryTable(table_name=TABLE, layout=wide()),
        wr.MediaBrowser(title="Errors", media_keys=[ERRORS], num_columns=1, layout=wide()),
    ]


def title(group: str | None) -> str:
    """A view's name may hold neither symbols such as `=` nor, in a report, more than 128 characters."""
    return f"Methods compared: {re.sub(r'[^a-zA-Z0-9_ ,.-]', ' ', group)}"[:128] if group else "Methods compared"


def workspace(entity: str, project: str, group: str | None) -> "ws.Workspace":
    """A view of the project's finished runs, or those of one group, by method and number of labels."""
    parts = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections().items()]
    parts.append(ws.Section(name="Comparison", panels=comparison(), is_open=True))
    runs = ws.RunsetSettings(
        filters=filters(group, "State == 'finished'"),
        groupby=[ws.Config(METHOD), ws.Config(LABEL)],
        pinned_columns=["summary:choices/method", f"config:{LABEL}"]
        + [f"summary:models/{name}/error_last" for name in DEPLOYED],
    )
    return ws.Workspace(entity=entity, project=project, name=title(group), sections=parts, runset_settings=runs)


def report(entity: str, project: str, group: str | None) -> "wr.Report":
    """The same panels under headings, each with its runs. A run set without a project is one of the report's own."""
    by = [f"config.{METHOD}", f"config.{LABEL}"]
    finished, of_sweep = filters(group, "State == 'finished'"), filters(group, f"JobType == '{COMPARISON}'")
    blocks: list = [
        wr.P(
            "Errors are fractions of the test part at the last step, never the best of a run. "
            "A line or bar is the mean over the runs of one method and number of labels, with its standard deviation."
        )
    ]
    for name, panels in sections().items():
        runs = wr.Runset(name="Finished runs", filters=finished, groupby=by)
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    runs = wr.Runset(name="Comparisons", filters=of_sweep)
    blocks += [wr.H2("Comparison"), wr.PanelGrid(runsets=[runs], panels=comparison())]
    return wr.Report(entity=entity, project=project, title=title(group), blocks=blocks, width="fluid")


def specification(made: "ws.Workspace | wr.Report") -> dict:
    """What is sent to W&B."""
    return json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def save(made: dict[str, "ws.Workspace | wr.Report"]) -> None:
    """Send each to W&B and say where it is. Raises UserError where there is no account, network or permission."""
    try:
        wandb.setup(settings=wandb.Settings(silent=True, mode="online", x_graphql_retry_max=RETRIES))
        if not wandb.login(prompt=False, verify=False):
            raise UserError("there is no W&B account on this machine; run `wandb login`, or add --dry-run FILE")
        for kind, one in made.items():
            print(f"{kind}: {one.save().url}")
    except UserError:
        raise
    except Exception as error:  # wandb-workspaces raises Exception itself
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"W&B did not take it: {why}") from error


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ArgumentError for what is not understood."""
    parser = argparse.ArgumentParser(PROGRAM, description=__doc__, exit_on_error=False)
    parser.add_argument("--entity", required=True, help="the W&B team or user that the project belongs to")
    parser.add_argument("--project", default="meanteacher")
    parser.add_argument("--group", help="compare the runs of this W&B group only; a sweep's runs are one group")
    parser.add_argument("--report", action="store_true", help="make a report too")
    parser.add_argument(
        "--dry-run", type=Path, metavar="FILE", help="write what would be sent as JSON; needs no network"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError, argparse.ArgumentError and OSError."""
    args = parse(arguments)
    if MISSING:
        raise UserError(f"{MISSING}; dashboards need wandb-workspaces: pip install -e '.[dashboard]'")
    address = (args.entity, args.project, args.group)
    views = {"workspace": workspace(*address)} | ({"report": report(*address)} if args.report else {})
    if args.dry_run:
        specifications = {kind: specification(view) for kind, view in views.items()}
        args.dry_run.write_text(json.dumps(specifications, indent=1) + "\n")
    else:
        save(views)
    return 0
