"""Atomic writes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT

from meanteacher.config.files import write_atomically


def test_a_file_is_created_and_replaced(tmp_path):
    path = tmp_path / "a.json"
    for content, expected in (("é\n", "é\n".encode()), (b"\x00\xff", b"\x00\xff")):
        assert write_atomically(path, content) == path
        assert path.read_bytes() == expected and list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(monkeypatch, tmp_path):
    path = write_atomically(tmp_path / "a.json", "old")

    def fail(*arguments):
        raise OSError("disk error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk error"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: write_atomically(path, json.dumps([number] * 100)), range(400)))
    assert len(set(json.loads(path.read_text()))) == 1 and [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "a.json", "text")


def test_a_locale_without_unicode_prints_everything():
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    code = "from meanteacher.config.cli import main; main(['--help']); print('\\u03b5', '\\udcff')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True)
    assert done.returncode == 0 and rb"\u03b5 \udcff" in done.stdout, done.stderr
