"""The dashboard shows what our runs really log, and is specified without a network or an account."""

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
def library():
    pytest.importorskip("wandb_workspaces")


@pytest.fixture
def offline(monkeypatch):
    """Whatever asks for an account or the network fails."""
    for name in ("login", "Api", "init", "setup"):
        monkeypatch.setattr(wandb, name, lambda *_, asked=name, **__: pytest.fail(f"wandb.{asked} was called"))


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> tuple[set[str], set[str], set[str]]:
    """The names in history, summary and configuration of a run with a teacher and of one without."""
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


def found(node, key: str) -> list:
    """The values of all `key` in a nest of lists and mappings."""
    if isinstance(node, list):
        return [value for inner in node for value in found(inner, key)]
    if isinstance(node, dict):
        own = [node[key]] if key in node else []
        return own + [value for inner in node.values() for value in found(inner, key)]
    return []


def shown(specification: dict) -> dict[str, set[str]]:
    """What panels of each kind take their values from."""
    kinds: dict[str, set[str]] = {}
    for panels in found(specification, "panels"):
        for panel in panels if isinstance(panels, list) else []:
            config = panel["config"]
            axes = {config[axis] for axis in ("xAxis", "yAxis") if panel["viewType"] == "Scatter Plot"}
            taken = {*config.get("metrics", ()), *config.get("mediaKeys", ()), *axes, *found(config, "val")}
            kinds.setdefault(panel["viewType"], set()).update(taken)
    return kinds


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_panels_show_what_runs_log(tmp_path, library, offline, logged, kind):
    history, summary, configuration = logged
    kinds = shown(dry_run(tmp_path, "--report")[kind])
    assert kinds.pop("Run History Line Plot") == SHOWN <= history
    assert kinds.pop("Bar Chart") == LAST | {"images_per_second"} <= summary
    assert kinds.pop("Scatter Plot") == {"config:label.value", *(f"summary:{key}" for key in LAST)}
    assert "label" in configuration
    assert kinds == {"Weave": {"comparison/table"}, "Media Browser": {"comparison/errors"}}


@pytest.mark.parametrize("kind", ["workspace", "report"])
@pytest.mark.parametrize("group", [None, "quickstart", GROUP])
def test_runs_are_finished_ones_of_the_group_by_method_and_label(tmp_path, library, offline, logged, kind, group):
    made = dry_run(tmp_path, "--report", *([f"--group={group}"] if group else []))[kind]
    runs = [one for sets in found(made, "runSets") for one in sets]
    *main, last = runs if kind == "report" else [*runs, None]
    assert main
    for one in main:
        assert one["grouping"] == [
            {"section": "config", "name": "choices.method.value"},
            {"section": "config", "name": "label.value"},
        ]
        assert conditions(one) == {"state": "finished"} | ({"group": group} if group else {})
    if last:
        assert conditions(last) == {"jobType": "comparison"} | ({"group": group} if group else {})
        assert not last["grouping"]
    assert {"choices.method", "label"} <= logged[2]


def test_columns_are_what_runs_log(tmp_path, library, offline, logged):
    (columns,) = found(dry_run(tmp_path)["workspace"], "columnOrder")
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
    assert [one["op"] for one in filters] == ["="] * len(filters)
    assert [one.get("connector", "AND") for one in filters] == ["AND"] * len(filters)
    return {one["key"]["name"]: one["value"] for one in filters}


def test_a_report_is_made_where_asked_for(tmp_path, library, offline):
    assert set(dry_run(tmp_path)) == {"workspace"}
    assert set(dry_run(tmp_path, "--report")) == {"workspace", "report"}


def test_names_are_of_a_kind_and_length_that_wandb_takes(library, offline):
    for group in (GROUP, "a=" * 200):
        assert dashboard.make_workspace("team", "project", group).name.startswith("Methods compared: ")
        assert len(dashboard.make_report("team", "project", group).title) <= 128


def test_what_was_made_is_sent_and_said_where(library, monkeypatch, capsys):
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
    assert [(one["entityName"], one["projectName"], one["type"]) for one in sent] == [
        ("team", "project", "project-view"),
        ("team", "project", "runs"),
    ]
    assert all(shown(json.loads(one["spec"]))["Run History Line Plot"] == SHOWN for one in sent)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("https://wandb.example/team/project")[0] for line in lines] == ["workspace: ", "report: "]


def in_a_process(tmp_path, *arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess:
    """The command on a machine that knows no account, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {f"WANDB_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    environment |= {"NETRC": str(tmp_path / "netrc"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    program = f"import sys\n{code}\nfrom meanteacher.config import cli\nsys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "dashboard", "--entity=team", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)


def said(run: subprocess.CompletedProcess) -> str:
    """The one line of a command that failed."""
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_without_the_package_it_says_what_to_install(tmp_path):
    run = in_a_process(tmp_path, "--dry-run=file", code="sys.modules['wandb_workspaces'] = None")
    assert "pip install -e '.[dashboard]'" in said(run)


def test_without_an_account_it_says_so(tmp_path, library):
    line = said(in_a_process(tmp_path))
    assert "`wandb login`" in line and "--dry-run" in line


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_without_a_network_it_says_so(tmp_path, library, mode):
    account = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a1" * 20}
    line = said(in_a_process(tmp_path, "--report", WANDB_MODE=mode, **account))
    assert "W&B did not accept it" in line and "127.0.0.1:9" in line


def test_a_malformed_key_is_one_line(tmp_path, library):
    assert "40+ characters" in said(in_a_process(tmp_path, WANDB_API_KEY="short"))


def test_a_dry_run_needs_no_account(tmp_path, library):
    run = in_a_process(tmp_path, "--report", f"--dry-run={tmp_path / 'file'}")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert set(json.loads((tmp_path / "file").read_text())) == {"workspace", "report"}


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, library, capsys):
    assert cli.main(["dashboard", "--entity=team", f"--dry-run={tmp_path / 'no' / 'file'}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
