"""split.json in a run folder: a torn file is written again, and one that was changed is refused."""

import json
import random

import pytest
from test_splits import balanced, draw

from meanteacher.config.errors import UserError
from meanteacher.data import splits
from meanteacher.data.stored_split import is_stored

SPLIT = draw(balanced, 20, 0, 40)


@pytest.fixture
def path(tmp_path):
    splits.write(tmp_path / "split.json", balanced, SPLIT, {"label": 20})
    return tmp_path / "split.json"


def stored(path) -> bool:
    return is_stored(path, balanced, SPLIT, labeled_in_unlabeled=True)


def test_a_stored_split_is_recognized(path, tmp_path):
    assert stored(path) and not stored(tmp_path / "missing.json")


def test_a_torn_split_is_to_be_written_again(path, caplog):
    content, draw_length = path.read_bytes(), random.Random(0)
    lengths = [0, 1, len(content) - 3, *(draw_length.randrange(len(content) - 2) for _ in range(30))]
    for torn in [*(content[:length] for length in lengths), bytes(len(content)), b"\xff" + content]:
        path.write_bytes(torn)
        caplog.clear()
        assert not stored(path) and "split.json is damaged; it is written again" in caplog.text


def change(content: dict, name: str) -> None:
    positions = content["labeled"]
    changes = {
        "other image": lambda: positions.__setitem__(0, next(i for i in range(400) if i not in positions)),
        "fewer labels": lambda: [content[key].pop() for key in ("labeled", "labeled_names", "labeled_classes")],
        "edited label": lambda: content["labeled_classes"].__setitem__(0, content["labeled_classes"][-1]),
        "edited name": lambda: content["labeled_names"].__setitem__(0, "nothing.png"),
        "a validation image less": lambda: content["validation"].pop(),
        "an image twice": lambda: positions.__setitem__(0, positions[1]),
        "out of range": lambda: positions.__setitem__(0, 10**9),
        "negative": lambda: positions.__setitem__(0, -1),
        "huge": lambda: positions.__setitem__(0, 10**30),
        "fraction": lambda: positions.__setitem__(0, 0.5),
        "text": lambda: content.__setitem__("labeled", "all"),
        "nested": lambda: content.__setitem__("labeled", [positions]),
        "missing": lambda: content.pop("labeled"),
        "another number of images": lambda: content.__setitem__("images", 399),
        "other classes": lambda: content.__setitem__("classes", ["a"]),
        "unlabeled images": lambda: content.__setitem__("unlabeled_positions", [1, 2]),
    }
    changes[name]()


CHANGES = [
    "other image",
    "fewer labels",
    "edited label",
    "edited name",
    "a validation image less",
    "an image twice",
    "out of range",
    "negative",
    "huge",
    "fraction",
    "text",
    "nested",
    "missing",
    "another number of images",
    "other classes",
    "unlabeled images",
]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_split_is_refused_and_left_as_it_is(name, path):
    content = json.loads(path.read_text())
    change(content, name)
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"split.json: does not hold the images .* delete it to have it written again"):
        stored(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{}"])
def test_another_json_file_is_refused(content, path):
    path.write_text(content)
    with pytest.raises(UserError, match="does not hold the images"):
        stored(path)
