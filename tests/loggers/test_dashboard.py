"""The dashboard shows what runs log, and is specified without a network or an account."""

import json
import os
import subprocess
import sys

import pytest
import wandb
from conftest import ROOT, TINY, parsed

from meanteacher.config import cli
from meanteacher.config.digest import flatten
from meanteacher.config.settings import Choices
from meanteacher.loggers import dashboard
from meanteacher.runs import run

SHOWN = {
    "train/loss",
    "train/consistency",
    "train/images_per_second",
    *(f"test/{model}/error" for model in ("teacher", "student", "average")),
    *(f"test/{model}/ece" for model in ("teacher", "student", "average")),
    *(f"validation/{model}/error" for model in ("teacher", "average")),
}
LAST = {f"models/{model}/error_last" for model in ("teacher", "average")}
GROUP = "method=mean_teacher,supervised label=250,1000 'x <= \"y\\z\"' ü>1"


@pytest.fixture
def wandb_workspaces():
    """Skip the test if wandb-workspaces is not installed."""
    pytest.importorskip("wandb_workspaces")


@pytest.fixture
def offline(monkeypatch):
    """Every call that needs an account or a network fails."""
    for name in ("login", "Api", "init", "setup"):
        monkeypatch.setattr(wandb, name, lambda *_, called=name, **__: pytest.fail(f"wandb.{called} was called"))


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> tuple[set[str], set[str], set[str]]:
    """The names in history, summary and configuration of two runs, with and without a teacher."""
    history, summary, configuration = set(), set(), set()
    for method in ("mean_teacher", "supervised"):
        folder = tmp_path_factory.mktemp(method)
        settings = parsed(*TINY, f"method={method}", "validation=100", "trainer.log_every=2")
        choices = Choices(dataset="digits", model="wrn_10_1", method=method, experiment="quickstart")
        result = run.run(settings, choices, folder, "command")
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            history |= set(json.loads(line))
        summary |= set(flatten(result.model_dump(exclude_unset=True), "/"))
        configuration |= set(flatten(settings.as_dict() | {"choices": choices.model_dump()}, "."))
    return history, summary, configuration


def dry_run(tmp_path, *arguments: str) -> dict:
    file = tmp_path / "dashboard.json"
    assert dashboard.main(["--entity=team", f"--dry-run={file}", *arguments]) == 0
    return json.loads(file.read_text())


def find_values(node, key: str) -> list:
    """The values of every `key` in nested lists and dictionaries."""
    if isinstance(node, list):
        return [value for inner in node for value in find_values(inner, key)]
    if isinstance(node, dict):
        own = [node[key]] if key in node else []
        return own + [value for inner in node.values() for value in find_values(inner, key)]
    return []


def panel_sources(specification: dict) -> dict[str, set[str]]:
    """The names of the values that panels show, by the kind of panel."""
    kinds: dict[str, set[str]] = {}
    for panels in find_values(specification, "panels"):
        for panel in panels if isinstance(panels, list) else []:
            config = panel["config"]
            axes = {config[axis] for axis in ("xAxis", "yAxis") if panel["viewType"] == "Scatter Plot"}
            sources = {*config.get("metrics", ()), *config.get("mediaKeys", ()), *axes, *find_values(config, "val")}
            kinds.setdefault(panel["viewType"], set()).update(sources)
    return kinds


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_panels_show_what_runs_log(tmp_path, wandb_workspaces, offline, logged, kind):
    history, summary, configuration = logged
    kinds = panel_sources(dry_run(tmp_path, "--report")[kind])
    assert kinds.pop("Run History Line Plot") == SHOWN <= history
    assert kinds.pop("Bar Chart") == LAST | {"images_per_second"} <= summary
    assert kinds.pop("Scatter Plot") == {"config:label.value", *(f"summary:{key}" for key in LAST)}
    assert "label" in configuration
    assert kinds == {"Weave": {"comparison/table"}, "Media Browser": {"comparison/errors"}}


@pytest.mark.parametrize("kind", ["workspace", "report"])
@pytest.mark.parametrize("group", [None, "quickstart", GROUP])
def test_finished_runs_are_grouped_by_method_and_label(tmp_path, wandb_workspaces, offline, logged, kind, group):
    view = dry_run(tmp_path, "--report", *([f"--group={group}"] if group else []))[kind]
    runs = [run_set for sets in find_values(view, "runSets") for run_set in sets]
    *main, last = runs if kind == "report" else [*runs, None]
    assert main
    for run_set in main:
        assert run_set["grouping"] == [
            {"section": "config", "name": "choices.method.value"},
            {"section": "config", "name": "label.value"},
        ]
        assert conditions(run_set) == {"state": "finished"} | ({"group": group} if group else {})
    if last:
        assert conditions(last) == {"jobType": "comparison"} | ({"group": group} if group else {})
        assert not last["grouping"]
    assert {"choices.method", "label"} <= logged[2]


def test_columns_are_what_runs_log(tmp_path, wandb_workspaces, offline, logged):
    (columns,) = find_values(dry_run(tmp_path)["workspace"], "columnOrder")
    assert columns == [
        "run:displayName",
        "summary:choices/method",
        "config:label.value",
        *(f"summary:models/{model}/error_last" for model in ("teacher", "average")),
    ]
    assert LAST | {"choices/method"} <= logged[1]


def conditions(runs: dict) -> dict[str, str]:
    """Name and value of each filter; all must hold."""
    filters = runs["filters"]["filters"]
    assert [condition["op"] for condition in filters] == ["="] * len(filters)
    assert [condition.get("connector", "AND") for condition in filters] == ["AND"] * len(filters)
    return {condition["key"]["name"]: condition["value"] for condition in filters}


def test_wandb_workspaces_still_has_the_private_method_that_gives_the_json(wandb_workspaces):
    view = dashboard.make_workspace("team", "project", None)
    hint = "has changed in this version of wandb-workspaces: adapt meanteacher/loggers/dashboard_json.py"
    assert hasattr(view, "_to_model") and hasattr(view._to_model(), "spec"), f"Workspace._to_model {hint}"


def test_a_report_is_made_on_request(tmp_path, wandb_workspaces, offline):
    assert set(dry_run(tmp_path)) == {"workspace"}
    assert set(dry_run(tmp_path, "--report")) == {"workspace", "report"}


def test_wandb_accepts_the_titles(wandb_workspaces, offline):
    for group in (GROUP, "a=" * 200):
        assert dashboard.make_workspace("team", "project", group).name.startswith("Methods compared: ")
        assert len(dashboard.make_report("team", "project", group).title) <= 128


def test_views_are_sent_and_their_addresses_printed(wandb_workspaces, monkeypatch, capsys):
    sent = []

    class Service:
        app_url = "https://wandb.example"

        def execute_graphql(self, query, variables):
            sent.append(variables)
            view = {"id": "Vmlldzox", "name": variables["name"], "inserted": True}
            if variables["type"] == "runs":
                view |= {"displayName": variables["displayName"], "description": "", "spec": variables["spec"]}
                view |= {"project": {"name": "project", "entityName": "team"}, "createdAt": None, "updatedAt": None}
            return {"upsertView": {"view": view}}

    class Api:
        def __init__(self):
            self._service_api = Service()

        def projects(self, entity):
            return [type("Project", (), {"name": "project"})]

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(wandb, "setup", lambda **_: None)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    assert dashboard.main(["--entity=team", "--project=project", "--report"]) == 0
    assert [(view["entityName"], view["projectName"], view["type"]) for view in sent] == [
        ("team", "project", "project-view"),
        ("team", "project", "runs"),
    ]
    assert all(panel_sources(json.loads(view["spec"]))["Run History Line Plot"] == SHOWN for view in sent)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("https://wandb.example/team/project")[0] for line in lines] == ["workspace: ", "report: "]


def in_a_process(tmp_path, *arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, without a W&B account."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {f"WANDB_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    environment |= {"NETRC": str(tmp_path / "netrc"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    program = f"import sys\n{code}\nfrom meanteacher.config import cli\nsys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "dashboard", "--entity=team", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)


def error_line(run: subprocess.CompletedProcess) -> str:
    """The only line that a failed command printed."""
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_missing_package_is_reported_with_what_to_install(tmp_path):
    run = in_a_process(tmp_path, "--dry-run=file", code="sys.modules['wandb_workspaces'] = None")
    assert "pip install -e '.[dashboard]'" in error_line(run)


def test_a_missing_account_is_reported(tmp_path, wandb_workspaces):
    line = error_line(in_a_process(tmp_path))
    assert "`wandb login`" in line and "--dry-run" in line


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_missing_network_is_reported(tmp_path, wandb_workspaces, mode):
    account = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a1" * 20}
    line = error_line(in_a_process(tmp_path, "--report", WANDB_MODE=mode, **account))
    assert "W&B did not accept it" in line and "127.0.0.1:9" in line


def test_a_malformed_key_is_reported_in_one_line(tmp_path, wandb_workspaces):
    assert "40+ characters" in error_line(in_a_process(tmp_path, WANDB_API_KEY="short"))


def test_a_dry_run_needs_no_account(tmp_path, wandb_workspaces):
    run = in_a_process(tmp_path, "--report", f"--dry-run={tmp_path / 'file'}")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert set(json.loads((tmp_path / "file").read_text())) == {"workspace", "report"}


def test_a_file_that_cannot_be_written_is_reported_in_one_line(tmp_path, wandb_workspaces, capsys):
    assert cli.main(["dashboard", "--entity=team", f"--dry-run={tmp_path / 'no' / 'file'}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
