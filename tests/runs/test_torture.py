"""The short form of `scripts/torture`: SIGKILL at random moments, and the end is that of a run that never stopped."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_killed_runs_end_like_undisturbed_ones(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/torture"), "--kills=3", "--methods", "mean_teacher"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "'differences': []" in done.stdout, done.stdout + done.stderr
