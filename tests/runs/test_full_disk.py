"""The short form of `scripts/full_disk`: the disk is full when a file is opened, and the same command goes on."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

MOUNT = ["unshare", "--map-root-user", "--mount"]


def can_mount(folder) -> bool:
    probe = [*MOUNT, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_disk_that_is_full_at_one_moment_loses_nothing(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("file systems cannot be mounted here")
    files = ["run/checkpoint.tmp", "run/.inference.json.tmp"]
    start = [*MOUNT, sys.executable, str(ROOT / "scripts/full_disk"), "--files", *files]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(start, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("'wrong': []") >= 3, done.stdout + done.stderr
