"""Protocols are never mixed, and variants are named by the settings in which they differ."""

import pytest
from comparison_runs import markdown, put, result, three_seeds

from meanteacher.comparison.command import compare
from meanteacher.comparison.identity import protocol_fields
from meanteacher.comparison.settings import contrast
from meanteacher.runs.result import Result


def test_protocols_are_never_mixed(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    put(runs, result("mean_teacher", 20, 0, 0.9, {"steps": 200}), result("supervised", 20, 1, 0.8, {"steps": 200}))
    comparison = compare([runs], tmp_path / "out")
    assert comparison.verdicts[0].startswith("A, 20 labels: mean_teacher 12.0 ± 2.0 % beats supervised by 10.0 points")
    assert comparison.verdicts[1].startswith(
        "B, 20 labels: supervised 80.0 % has a smaller mean error than mean_teacher"
    )
    assert "- Protocols, never mixed in a number: A: steps=100; B: steps=200." in markdown(tmp_path / "out")
    shared = (
        "digits (1438 training images, 359 test images, 10 classes), WideResNet-10-1, 16 labeled + 48 unlabeled images"
    )
    assert f"- Shared by all: {shared} a step" in markdown(tmp_path / "out")
    assert "## Error at the last step (%), B" in markdown(tmp_path / "out")


@pytest.mark.parametrize("more", [{"precision": "bf16"}, {"data": {"name": "digits", "train": 1438, "test": 360}}])
def test_precision_and_data_belong_to_the_protocol(tmp_path, more):
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.1, **more))
    assert len(compare([runs], tmp_path / "out").verdicts) == 2


def test_data_location_and_device_do_not_belong_to_the_protocol(tmp_path):
    elsewhere = {"dataset.data_dir": "y", "dataset.storage": "mmap", "trainer.device": "cuda", "model.width": 1.0}
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.3, elsewhere))
    assert compare([runs], tmp_path / "out").verdicts[0].startswith("20 labels: a 20.0 ± 14.1 % (n = 2)")


def test_where_a_table_of_images_lies_does_not_belong_to_the_protocol():
    target = {"dataset._target_": "meanteacher.data.table.table"}
    files = [Result.parse(result("a", 20, 0, 0.1, target | {"dataset.file": file})) for file in ("x.csv", "y.csv")]
    assert protocol_fields(files[0]) == protocol_fields(files[1])
    others = [Result.parse(result("a", 20, 0, 0.1, {"dataset.file": file})) for file in ("x.csv", "y.csv")]
    assert protocol_fields(others[0]) != protocol_fields(others[1])


def test_variants_are_named_by_the_settings_that_differ_within_their_method(tmp_path):
    runs = [result("supervised", 20, 0, 0.3, {"optimizer.lr": 0.5})]
    for weight in (10, 10.0, 100):
        for lr in (0.1, 0.2):
            changes = {"method.weight": weight, "method.teacher.decay": 0.99, "optimizer.lr": lr}
            runs.append(result("mean_teacher", 20, int(isinstance(weight, float)), 0.2, changes))
    comparison = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    both = [f"mean_teacher weight={weight} lr={lr}" for weight in (10, 100) for lr in (0.1, 0.2)]
    assert list(dict.fromkeys(comparison.summary["variant"])) == ["supervised", *both], "10 and 10.0 are one"
    alone = put(tmp_path / "alone", *(result("a", 20, s, 0.2, {"method.weight": w}) for s, w in ((0, 10), (1, 10.0))))
    assert set(compare([alone], tmp_path / "other").summary["variant"]) == {"a"}
    assert "so its error is optimistic" in markdown(tmp_path / "out")


def test_keys_that_only_some_configurations_have_are_named_by_their_option():
    items = [
        {"optimizer._target_": "sgd", "optimizer.momentum": 0.9},
        {"optimizer._target_": "adam", "optimizer.beta": 0.9},
    ]
    names = [{"optimizer": "sgd"}, {"optimizer": "adam"}]
    assert contrast(items, names) == [{"optimizer": "sgd"}, {"optimizer": "adam"}]
    same = [{"optimizer": "mine"}] * 2
    assert contrast(items, same)[0]["optimizer.momentum"] == "0.9", (
        "an option of the same name does not tell them apart"
    )


def test_tables_say_which_protocol_is_a_transfer_baseline_or_that_there_is_none(tmp_path):
    none = "No transfer baseline: no run on this data set starts from the weights of a file"
    old = result("supervised", 20, 0, 0.2)
    new = result("supervised", 20, 1, 0.2, {"model.train": "all", "model.weights": None, "dataset.name": "digits"})
    new["settings"]["model"].pop("weights")
    terminal = compare([put(tmp_path / "a", old, new)], tmp_path / "out").text
    assert none in markdown(tmp_path / "out") and none in terminal
    assert "Protocols, never mixed" not in terminal, "model.train=all is how runs were trained before there was the key"
    probe = result("supervised", 20, 0, 0.1, {"model.weights": "w.pth", "model.train": "probe"})
    compare([put(tmp_path / "b", old, new, probe)], tmp_path / "out")
    text = markdown(tmp_path / "out")
    assert none not in text and "Transfer baseline: protocol B." in text
    assert "These are transfer baselines: a linear probe on frozen features, from weights in a file." in text
