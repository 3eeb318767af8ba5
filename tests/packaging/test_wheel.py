"""The built wheel works in an empty folder: the command, the packaged yaml files and a researcher's own project."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

SOURCES = (
    "conf",
    "hydra_plugins",
    "meanteacher",
    "sweeps",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
TRUSTED = "trusted_packages=[entropy_minimization,small_convnet]"
TINY = ("experiment=quickstart", "steps=4", "eval_every=2", "logger=jsonl")
OWN = re.compile(r'^```\w+ title="(?P<path>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
"""A file printed in the documentation: a code block whose title is the path of the file."""


def call(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run a program outside the checkout, with one thread."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        list(map(str, arguments)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def succeed(*arguments: str | Path, cwd: Path) -> str:
    """The output of a program that has to succeed."""
    process = call(*arguments, cwd=cwd)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a source distribution of a copy of the checkout, so that no `build/` is left behind."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "checkout"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    succeed(sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('..')", cwd=copy)
    (archive,) = folder.glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    succeed(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, archive, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def meanteacher(wheel, tmp_path_factory) -> Path:
    """The command `meanteacher`, installed from the wheel into an environment that shares this one's other packages."""
    environment = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    site = Path(
        succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment).strip()
    )
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "shared.pth").write_text("\n".join(paths) + "\n")
    options = ("--no-deps", "--no-index", "--ignore-installed", "--quiet")
    succeed(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=environment)
    installed = succeed(python, "-c", "import meanteacher; print(meanteacher.__file__)", cwd=environment)
    assert Path(installed.strip()).is_relative_to(site)
    return environment / "bin" / "meanteacher"


def test_wheel_contains_every_yaml_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, packaged in (("conf", "meanteacher/conf"), ("sweeps", "meanteacher/sweep_configs")):
        files = {f"{packaged}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob("*.yaml")}
        assert files and files <= names
    assert {"hydra_plugins/grid.py", "meanteacher/comparison/published.csv"} <= names
    assert not [name for name in names if name.startswith(("tests", "results", "docs"))]


def test_command_trains_sweeps_and_compares_in_an_empty_folder(meanteacher, tmp_path):
    succeed(meanteacher, "train", "sweep=digits", *TINY, "seed=0", "label=20", "hydra/launcher=basic", cwd=tmp_path)
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/digits/*/label-20/seed-0/*/result.json")]
    assert [result["status"] for result in results] == ["finished", "finished"]
    succeed(meanteacher, "compare", "outputs", "--out", "again", cwd=tmp_path)
    assert (tmp_path / "again" / "comparison.html").is_file()
    assert "experiment=fixmatch" in succeed(meanteacher, "recipes", cwd=tmp_path)


def test_example_project_trains_with_its_own_method_and_network(meanteacher, tmp_path):
    project = shutil.copytree(ROOT / "examples" / "own_project", tmp_path / "project")
    assert sum(path.is_file() for path in project.rglob("*")) == 5
    arguments = ("--config-dir", "conf", TRUSTED, *TINY, "method=entropy_minimization", "model=small_convnet")
    succeed(meanteacher, "train", *arguments, cwd=project)
    (file,) = project.glob("outputs/digits/entropy_minimization/label-20/seed-0/*/result.json")
    assert json.loads(file.read_text())["status"] == "finished"
    process = call(meanteacher, "train", *arguments, "method.entropy_weight=-1", cwd=project)
    assert process.returncode == 1 and process.stderr.startswith("error: method.entropy_weight=-1: ")


def test_files_printed_in_the_documentation_train_together(meanteacher, tmp_path):
    for block in OWN.finditer((ROOT / "docs" / "extending.md").read_text()):
        path = tmp_path / block["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block["text"])
    groups = ("method", "model", "dataset", "augment")
    choices = [f"{group}={path.stem}" for group in groups for path in (tmp_path / "conf" / group).glob("*.yaml")]
    assert len(choices) == len(groups)
    own = ",".join(path.stem for path in tmp_path.glob("*.py"))
    trusted = f"trusted_packages=[{own}]"
    succeed(meanteacher, "train", "--config-dir", "conf", trusted, *TINY, *choices, cwd=tmp_path)
    (file,) = tmp_path.glob("outputs/*/*/label-20/seed-0/*/result.json")
    assert json.loads(file.read_text())["status"] == "finished"
