"""The proposed command, its reasons, and its time."""

import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import parsed
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from photo_cases import SPEED, fill, write_folder

from meanteacher.data import Dataset, Images
from meanteacher.data.splits import draw
from meanteacher.inspection.findings import examine
from meanteacher.inspection.proposal import choose_validation, propose, round_steps
from meanteacher.inspection.quoting import join_command, quote_value
from meanteacher.inspection.sources import read_source
from meanteacher.inspection.timing import Speed, measure_speed, noise
from meanteacher.inspection.weights import CachedWeights

NAMES = [
    *("photos", "/a/b.c", "~/x", "-x", "../x", "a b", " lead", "trail ", "it's", 'q"uo', '"', "\\", "a\\", "a\\\\"),
    *('a\\"b', "x=1,y", "über/飛行機", "${x}", "\\${x}", "$x", "[l]", "{a:b}", "(a)", "123", "1e3", "null", "True"),
]


def words(command):
    return shlex.split(command.replace("\\\n", " "))


def proposed(findings, **options):
    given = {"on_gpu": False, "weights": None, "image_size": None, "minutes": 5}
    return propose(findings, **given | options, measure_speed=lambda *_, **__: SPEED)


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return examine(read_source(str(write_folder(tmp_path_factory.mktemp("photos") / "it's 1,2"))))


def read_by_hydra(override):
    """The value of an override after its interpolations are resolved."""
    value = OverridesParser.create().parse_override(override).value()
    config = OmegaConf.create({"value": str(value) if isinstance(value, str) else value})
    return OmegaConf.to_container(config, resolve=True)["value"]


def test_shell_and_hydra_read_every_folder_name_back():
    command = join_command({f"key{row}": quote_value(name) for row, name in enumerate(NAMES)})
    assert [read_by_hydra(override) for override in words(command)[2:]] == NAMES


def test_long_commands_are_wrapped():
    command = join_command({f"key{i}": "value" * 5 for i in range(12)})
    assert max(map(len, command.splitlines())) <= 93 and len(words(command)) == 14


def test_the_command_is_accepted_as_printed(findings):
    command = proposed(findings).command
    settings = parsed(*words(command)[2:])
    assert settings.dataset.node["root"] == str(findings.source.root)
    assert settings.dataset.node["broken"] == "skip" and settings.validation == 3
    assert settings.trainer.labeled_sampling == "balanced"


def test_every_setting_has_a_reason_in_one_line(findings):
    settings = proposed(findings).settings
    assert all(setting.reason and len(setting.reason) <= 130 and "\n" not in setting.reason for setting in settings)


def test_copies_and_elongated_images_change_the_command(findings, tmp_path):
    overrides = proposed(findings).overrides
    assert overrides["dataset.exclude_duplicates"] == "near" and overrides["dataset.resize"] == "pad"
    fill(tmp_path, "train/a", 12, 0), fill(tmp_path, "train/b", 12, 50), fill(tmp_path, "test/a", 4, 90)
    plain = proposed(examine(read_source(str(tmp_path)))).overrides
    for key in ("dataset.broken", "dataset.exclude_duplicates", "dataset.resize", "trainer.labeled_sampling"):
        assert key not in plain
    assert plain["method"] == "supervised", "there are no unlabeled images"


def test_time_decides_the_number_of_steps(findings):
    proposal = proposed(findings, minutes=5)
    images = 4 + int(proposal.overrides["validation"])  # of the test part and for validation
    evaluating = 20 * images * SPEED.evaluated_image
    assert proposal.steps == 2500 and proposal.seconds == pytest.approx(2500 * SPEED.step + evaluating)
    assert proposal.overrides["eval_every"] == "125"
    assert proposed(findings, minutes=0.01).steps == 500 and proposed(findings, minutes=1e4).steps == 20_000
    assert [round_steps(count) for count in (3, 599, 1234, 9876, 20_001)] == [500, 550, 1000, 9500, 20_000]


@pytest.mark.parametrize(("seconds", "every"), [(0.001, 125), (0.5, 250), (1.0, 500), (100.0, 100)])
def test_a_slow_evaluation_is_done_less_often(findings, seconds, every):
    given = {"on_gpu": False, "weights": None, "image_size": None, "minutes": 5}
    proposal = propose(findings, **given, measure_speed=lambda *_, **__: Speed(step=0.1, evaluated_image=seconds))
    assert int(proposal.overrides["eval_every"]) == every


@pytest.mark.parametrize(
    ("on_gpu", "image_size", "size", "model"),
    [
        (False, None, 32, "wrn_10_1"),
        (True, None, 32, "wrn_28_2"),
        (True, 96, 96, "wrn_37_2"),
        (False, 48, 48, "wrn_10_1"),
    ],
)
def test_network_and_size_suit_the_device(findings, on_gpu, image_size, size, model):
    proposal = proposed(findings, on_gpu=on_gpu, image_size=image_size)
    assert (proposal.image_size, proposal.overrides["model"]) == (size, model)
    assert ("--image-size" in " ".join(x.reason for x in proposal.settings)) == (image_size is not None)


@pytest.mark.parametrize(
    ("on_gpu", "fixed", "size", "train"), [(True, False, 224, "all"), (False, False, 128, "probe")]
)
def test_trained_weights_are_started_from(findings, on_gpu, fixed, size, train):
    weights = CachedWeights("resnet18.a1_in1k", 224, fixed)
    proposal = proposed(findings, on_gpu=on_gpu, weights=weights)
    assert proposal.image_size == size and proposal.overrides["model.train"] == train
    settings = parsed(*words(proposal.command)[2:])
    assert settings.model["name"] == "resnet18.a1_in1k" and settings.model["weights"] == "pretrained"


@pytest.mark.parametrize(
    ("counts", "held_out"),
    [
        ((1, 1), 0),
        ((1,) * 5, 0),
        ((2, 30), 6),
        ((5, 5), 2),
        ((12, 96), 21),
        ((12, 288), 30),
        ((200, 400), 60),
        ((9000, 9000), 1000),
    ],
)
def test_validation_leaves_every_class_some_labels(counts, held_out):
    found = SimpleNamespace(counts={"train": np.array(counts)}, labels=sum(counts))
    assert choose_validation(found).overrides == {"validation": str(held_out)}
    targets = np.repeat(np.arange(len(counts)), counts)
    pixels, names = np.zeros((len(targets), 1, 1, 1), np.uint8), [str(row) for row in range(len(targets))]
    images = Images(pixels=pixels, targets=targets, names=names)
    data = Dataset(name="a", classes=list("abcde")[: len(counts)], train=images, test=images)
    split = draw(data, label="all", split_seed=0, validation=held_out, labeled_in_unlabeled=True)
    assert set(targets[split.labeled]) == set(targets)


def test_speed_is_measured_on_noise_without_leaving_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = {
        "model": "wrn_10_1",
        "method": "freematch",
        "trainer.labeled_batch": "4",
        "trainer.unlabeled_batch": "4",
    }
    speed = measure_speed(overrides | {"trainer.device": "cpu"}, classes=3, image_size=16)
    assert 0 < speed.evaluated_image < speed.step < 10 and not list(tmp_path.iterdir())
    assert Speed(step=2.0, evaluated_image=0.1).run_seconds(steps=10, evaluations=3, images=5) == pytest.approx(21.5)
    images = noise(classes=600, image_size=8)
    assert len(np.unique(images.train.targets)) == 600 and images.train.pixels.shape[1:] == (3, 8, 8)
