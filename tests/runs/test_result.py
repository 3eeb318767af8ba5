"""The result type: one class for writing and reading result.json, and for files of version 1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from meanteacher.comparison.identity import deployed_networks, protocol_fields, variant_fields
from meanteacher.comparison.settings import key
from meanteacher.config.errors import UserError
from meanteacher.runs import train
from meanteacher.runs.result import Result, Scores, deployed_network

COMMITTED = sorted(path for path in (ROOT / "results").rglob("*.json") if '"split_seed"' in path.read_text())
COMMITTED = [path for path in COMMITTED if path.name != "comparison.json"]
FIXMATCH = ROOT / "results/digits_methods/fixmatch_ema/seed-0.json"


def finished(method: str, seed: int = 0, **errors: float) -> Result:
    """A finished run with these errors of its networks."""
    known = {"digest": "0123456789", "command": "c", "source": "aaaa", "label": 20, "split_seed": seed}
    models = {network: {"error_last": error} for network, error in errors.items()}
    return Result(status="finished", choices={"method": method}, seed=seed, models=models, **known)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_every_committed_result_reads_and_is_kept_by_writing(path, tmp_path):
    result = Result.read(path)
    assert result.status == "finished" and result.models and result.schema_version == 3
    result.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == result
    content, written = json.loads(path.read_text()), json.loads((tmp_path / "result.json").read_text())
    content["schema_version"] = 3  # a file of version 1 has none, and calls the choices names
    if "names" in content:
        content["choices"] = content.pop("names")
    content.pop("settings", None), written.pop("settings", None), content.pop("checksum", None), written.pop("checksum")
    assert written == content, "every other field is written as it was read"


def test_there_are_committed_results_of_both_kinds():
    assert len(COMMITTED) > 150 and sum(Result.read(path).settings is None for path in COMMITTED) == 4


def as_version_3(content: dict) -> dict:
    """The file that this version writes for the run of a version 1 file of FixMatch with a teacher."""
    settings = json.loads(json.dumps(content["settings"]).replace("meanteacher.", "meanteacher.moved."))
    method, optimizer = settings["method"], settings["optimizer"]
    method["judge"] = method.pop("teacher")
    teacher = {name: method.pop(old) for name, old in zip(("decay", "warmup", "bn", "mode"), TEACHER, strict=True)}
    method["teacher"] = {"_target_": "meanteacher.methods.common.teacher.Teacher"} | teacher
    optimizer |= {"_target_": "torch.optim.SGD", "_partial_": True}
    content = {name: value for name, value in content.items() if name != "names"}
    return content | {"schema_version": 3, "choices": {"method": "fixmatch"}, "settings": settings}


TEACHER = ("ema_decay", "ema_warmup", "teacher_bn", "teacher_mode")


def test_version_1_result_has_the_protocol_and_variant_of_an_equal_version_2_result():
    content = json.loads(FIXMATCH.read_text())
    old, new = Result.parse(content), Result.parse(as_version_3(content))
    assert key(protocol_fields(old)) == key(protocol_fields(new))
    assert key(variant_fields(old)) == key(variant_fields(new))
    assert variant_fields(old)["method.judge"] == "ema" and variant_fields(old)["method.teacher.decay"] == 0.9
    other = as_version_3(content)
    other["settings"]["method"]["teacher"]["decay"] = 0.99
    assert key(variant_fields(Result.parse(other))) != key(variant_fields(old))


def test_betas_of_version_1_are_migrated():
    content = json.loads(FIXMATCH.read_text())
    content["settings"]["optimizer"] = {"_target_": "meanteacher.optim.adam", "lr": 0.1, "beta1": 0.9, "beta2": 0.99}
    migrated = Result.parse(content).settings["optimizer"]
    assert migrated == {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.99]}


def test_only_methods_with_a_teacher_get_a_teacher_node():
    content = json.loads(FIXMATCH.read_text())
    content["settings"]["method"] = {"_target_": "meanteacher.methods.supervised.Supervised"}
    assert Result.parse(content).settings["method"] == content["settings"]["method"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not readable as JSON"),
        ("{", "not readable as JSON"),
        ("[]", "not the result of a run"),
        ("{}", "not the result of a run"),
        ('{"schema_version": 3, "status": "done"}', r"not the result of a run \(status: Input should be"),
        ('{"schema_version": 4}', "schema version 4 is unknown to this version of meanteacher"),
    ],
)
def test_unusable_file_is_reported_in_one_line(tmp_path, content, message):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        Result.read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


EDITED = (
    "does not match its checksum, so it was damaged or edited; restore it from a copy, delete it and rerun the comm"
)


def measured() -> Result:
    """A finished run on images of one's own."""
    dataset = {"_target_": "meanteacher.data.folder.image_folder", "root": "/home/me/images", "image_size": 32}
    return finished("vat", student=0.25, teacher=0.125).replace(settings={"output": "/home/me", "dataset": dataset})


def test_every_flipped_bit_of_a_result_is_detected_or_harmless(tmp_path):
    measured().write(path := tmp_path / "result.json")
    content, detected = path.read_bytes(), 0
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                result = Result.read(path)
            except UserError as error:
                assert "\n" not in str(error) and str(path) in str(error)
                detected += 1
            else:
                assert result.replace(command="c", settings=None) == measured().replace(settings=None)
    assert detected > 6 * len(content), "only line breaks, the command and paths may be changed"


@pytest.mark.parametrize(
    "edit",
    [{"seed": 1}, {"models": {"student": {"error_last": 0.01}}}, {"settings": {"steps": 3}}, {"schema_version": 2}],
)
def test_an_edited_result_is_refused_until_its_checksum_is_removed(edit, tmp_path):
    measured().write(path := tmp_path / "result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(UserError, match=EDITED):
        Result.read(path)
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"}))
    assert Result.read(path).models


def test_paths_of_a_result_may_be_removed_and_its_layout_changed(tmp_path):
    measured().write(path := tmp_path / "result.json")
    content = json.loads(path.read_text())
    content["command"] = content["command"].replace("/home/me/images", "images")
    content["started_in"] = None
    content["settings"]["output"] = "outputs"
    content["settings"]["dataset"]["root"] = "images"
    path.write_text(json.dumps(content))
    assert Result.read(path).settings["dataset"]["root"] == "images"
    content["settings"]["dataset"]["image_size"] = 8
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=EDITED):
        Result.read(path)


def test_the_order_of_the_networks_counts(tmp_path):
    """The last one is the one to deploy."""
    measured().write(path := tmp_path / "result.json")
    content = json.loads(path.read_text())
    content["models"] = dict(reversed(content["models"].items()))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=EDITED):
        Result.read(path)


def test_replace_validates_and_keeps_the_other_fields():
    running = finished("mean_teacher", student=0.5).replace(status="running", models=None)
    assert (running.status, running.seed) == ("running", 0)
    done = running.replace(status="finished", models={"teacher": {"error_last": 0.1}})
    assert done.models == {"teacher": Scores(error_last=0.1)}
    with pytest.raises(ValueError, match="status"):
        running.replace(status="done")
    with pytest.raises(ValueError, match="wall_second"):
        running.replace(wall_second=1.0)


def test_method_is_judged_by_its_last_network():
    assert finished("mean_teacher", student=0.1, teacher=0.2).deployed == "teacher"


def test_baseline_is_judged_by_its_better_network_over_all_seeds():
    runs = [finished("supervised", 0, student=0.1, average=0.2), finished("supervised", 1, student=0.5, average=0.2)]
    assert [run.deployed for run in runs] == ["student", "average"]
    assert deployed_network(runs) == "average"
    assert deployed_networks([*runs, finished("vat", student=0.1, average=0.2)]) == ["average"] * 3


def test_result_does_not_import_torch():
    code = "import sys; import meanteacher.runs.result; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_of_a_run_can_be_called_from_any_folder(finished_run, tmp_path, monkeypatch):
    """Paths in it, such as `output` and `data_dir`, are relative to the directory in which the run was started."""
    written = Result.read(finished_run / "result.json")
    assert written.from_anywhere(finished_run) == written.command
    (tmp_path / "my project/outputs/run").mkdir(parents=True)
    result = written.replace(started_in="../..")
    moved = f"cd '{tmp_path}/my project' && {written.command}"
    assert result.from_anywhere(tmp_path / "my project/outputs/run") == moved
    monkeypatch.chdir(tmp_path / "my project")
    assert result.from_anywhere(Path("outputs/run")) == written.command
    monkeypatch.chdir(tmp_path / "my project/outputs")
    assert result.from_anywhere(Path("run")) == moved
    assert result.from_anywhere(Path("/nowhere/outputs/run")) == written.command, "the directory is not there"


def test_the_program_is_named_as_it_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["../checkout/run.py", "seed=1"])
    assert train.command_line() == "python ../checkout/run.py seed=1"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/meanteacher", "seed=1"])
    assert train.command_line() == "meanteacher train seed=1"
