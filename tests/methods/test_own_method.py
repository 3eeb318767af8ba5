"""A new method is two files, wherever they lie: no file of the framework names a method."""

import json
import re

from conftest import ROOT, TINY, command, options

METHOD = '''
"""Keeps the two weak views' logits together."""

from meanteacher.methods import Method, NonNegativeFloat, StepOutput, Views, cross_entropy


class Together(Method):
    views = Views(labeled=("weak",), unlabeled=("weak", "weak"))

    def __init__(self, *, student, pull: NonNegativeFloat):
        super().__init__()
        self.student, self.pull = student, pull

    def training_step(self, labeled, unlabeled, step):
        supervised = cross_entropy(self.student(labeled.views[0]), labeled.target).mean()
        one, two = (self.student(view).float() for view in unlabeled.views)
        return StepOutput(supervised + self.pull * (one - two).square().mean(), {"supervised": supervised})
'''


def test_two_files_outside_of_the_project_make_a_method(tmp_path):
    (tmp_path / "together.py").write_text(METHOD)
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "conf/method/together.yaml").write_text("_target_: together.Together\npull: 0.1\n")
    arguments = [f"--config-dir={tmp_path / 'conf'}", "method=together", "trusted_packages=together", *TINY]
    done = command(*arguments, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("outputs/digits/together/label-20/seed-0/*/result.json")
    result = json.loads(file.read_text())
    assert result["status"] == "finished" and set(result["models"]) == {"student", "average"}
    wrong = command(*arguments, "method.pull=-1", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: method.pull=-1: ")


def test_no_file_of_the_framework_names_a_method():
    baseline = {"supervised"}  # what the comparison measures the others against
    default = {  # what a command measures or proposes unless told otherwise
        "meanteacher/benchmark/command.py": {"mean_teacher"},
        "meanteacher/inspection/proposal.py": {"freematch"},
    }
    for path in [*(ROOT / "meanteacher").rglob("*.py"), ROOT / "run.py", *(ROOT / "hydra_plugins").glob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("meanteacher/methods/"):
            named = {method for method in options("method") if re.search(rf"['\"]{method}['\"]", path.read_text())}
            assert named <= baseline | default.get(name, set()), name
