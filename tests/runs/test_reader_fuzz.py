"""Readers of a run's files get arbitrary content: each returns what it promises or raises UserError, nothing else.

`test_found_by_fuzzing` keeps what longer searches found; MEANTEACHER_FUZZ=10000 searches for more.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import parsed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.data import Dataset, Images, splits
from meanteacher.data.splits import Split
from meanteacher.runs.result import Result
from meanteacher.runs.run import start
from meanteacher.training.checkpoint import CURRENT, PREVIOUS, Checkpoints

few = settings(
    max_examples=int(os.environ.get("MEANTEACHER_FUZZ", 40)),
    deadline=None,
    derandomize="MEANTEACHER_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

numbers = st.integers(-3, 30) | st.integers() | st.floats(allow_nan=True) | st.sampled_from([2**63, 2**64, 1e308])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(["0.png", "a", "\udcff", "all"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def images(count: int) -> Images:
    names = [f"{i}.png" for i in range(count)]
    return Images(pixels=np.zeros((count, 1, 2, 2), np.uint8), targets=np.arange(count) % 2, names=names)


DATA = Dataset(name="tiny", classes=["a", "b"], train=images(8), test=images(2))
SPLIT = splits.draw(DATA, label=4, split_seed=0, validation=2, labeled_in_unlabeled=True)


def written(folder) -> dict:
    splits.write(folder / "split.json", DATA, SPLIT, {"label": 4})
    return json.loads((folder / "split.json").read_text())


def read_split(folder, content: bytes) -> Split | None:
    """The split in a file of this content, None if it is refused in one line."""
    (folder / "fuzzed").write_bytes(content)
    try:
        return splits.read(folder / "fuzzed", DATA, labeled_in_unlabeled=True)
    except UserError as error:
        assert "\n" not in str(error)
        return None


def check_split(split: Split | None) -> None:
    if split is not None:
        for positions in (split.labeled, split.unlabeled, split.validation):
            assert positions.dtype == np.int64 and np.isin(positions, np.arange(8)).all()
        assert len(split.labeled) and not np.intersect1d(split.labeled, split.validation).size


@few
@given(st.data())
def test_a_split_file_with_other_values(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    content = written(folder)
    for key in data.draw(st.lists(st.sampled_from([*content, "unlabeled_positions"]), min_size=1, max_size=2)):
        if isinstance(old := content.get(key), list) and old and data.draw(st.booleans()):
            old[data.draw(st.integers(0, len(old) - 1))] = data.draw(values)
        else:
            content[key] = data.draw(values)
    check_split(read_split(folder, json.dumps(content).encode(errors="surrogatepass")))


@few
@given(st.text(alphabet='0123.png ab\n\t{}[]":,\x00\u2028', max_size=40) | st.binary(max_size=40))
def test_a_split_file_of_any_text(tmp_path_factory, text):
    content = text.encode() if isinstance(text, str) else text
    check_split(read_split(tmp_path_factory.getbasetemp(), content))


RESULT = json.loads(start(parsed(), Choices(dataset="a", method="b"), "command", Path("run"), None).to_json())


def read_result(content) -> None:
    try:
        assert isinstance(Result.parse(content), Result)
    except UserError as error:
        assert "\n" not in str(error)


@few
@given(st.data())
def test_a_result_with_other_values(data):
    content = dict(RESULT)
    for key in data.draw(st.lists(st.sampled_from([*RESULT, "models", "schema_version", "x"]), min_size=1, max_size=3)):
        content[key] = data.draw(values)
        if data.draw(st.booleans()):
            content.pop(key)
    if data.draw(st.booleans()):
        content["schema_version"] = data.draw(st.sampled_from([1, 2]))
    read_result(content)


@few
@given(values)
def test_a_result_of_any_json(content):
    read_result(content)


@few
@given(st.data())
def test_a_checkpoint_with_other_bytes(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    checkpoints = Checkpoints(folder, "abc")
    state = {"step": 3, "history": [], "seconds": 1.0, "threads": 1, "device": "cpu", "precision": "fp32"}
    state |= {"compiled": False, "method": {}, "optimizer": {}, "weights": torch.arange(20.0)}
    checkpoints.save(state)
    (folder / PREVIOUS).unlink(missing_ok=True)
    content = bytearray((folder / CURRENT).read_bytes())
    at, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 40))
    content[at : at + length] = data.draw(st.binary(max_size=40))
    (folder / CURRENT).write_bytes(content)
    loaded = checkpoints.load(torch.device("cpu"))
    assert loaded is None or (loaded["step"] == 3 and torch.equal(loaded["weights"], state["weights"]))


FOUND = [
    ("classes", None),
    ("labeled", [10**30, 1, 2, 3]),
    ("labeled", [[0, 1], [2, 3]]),
    ("labeled", [0.5, 1, 2, 3]),
]


@pytest.mark.parametrize(("key", "value"), FOUND)
def test_found_by_fuzzing(key, value, tmp_path):
    content = written(tmp_path) | {key: value}
    check_split(read_split(tmp_path, json.dumps(content).encode()))
