"""The model card of an exported run: Markdown with the metadata that the Hugging Face Hub reads."""

import re

import yaml
from tabulate import tabulate

from meanteacher.inference.export_check import Agreement
from meanteacher.inference.predictor import Predictor
from meanteacher.runs.page_text import FEW_IMAGES
from meanteacher.runs.result import ClassScores, Result
from meanteacher.training.calibration import wilson_interval

ONNX_USE = """import json
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
(probabilities,) = session.run(None, {{"images": np.asarray(image){gray}[None]}})
print(classes[probabilities[0].argmax()], probabilities[0].max())"""

PT2_USE = """import json
import numpy as np
import torch
from PIL import Image, ImageOps

files = {{"config.json": ""}}
model = torch.export.load("model.pt2", extra_files=files).module()
classes = json.loads(files["config.json"])["classes"]
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
probabilities = model(torch.from_numpy(np.array(image){gray}[None]))
print(classes[probabilities[0].argmax()], probabilities[0].max().item())"""

SAFETENSORS_USE = """import json
from hydra.utils import instantiate
from safetensors.torch import load_model

config = json.load(open("config.json"))
network = instantiate(config["network"]).eval()
load_model(network, "model.safetensors")
# softmax(network(images) / config["temperature"]), for float32 [N, C, H, W] normalized as config["normalization"]"""

USE = {"onnx": ONNX_USE, "pt2": PT2_USE, "safetensors": SAFETENSORS_USE}


def write(result: Result, predictor: Predictor, config: dict, format: str, agreement: Agreement, license: str) -> str:
    """The card. config: the content of config.json; format: onnx, pt2 or safetensors; license: of the weights."""
    channels = predictor.image_shape[0]
    use = USE[format].format(mode="RGB" if channels == 3 else "L", gray="" if channels == 3 else "[..., None]")
    name = f"{result.method} on {(result.data or {}).get('name')}"
    parts = [
        f"---\n{yaml.safe_dump(metadata(result, predictor, format, license), sort_keys=False, allow_unicode=True)}---",
        f"# {escape(name)}",
        f"An image classifier for {len(predictor.classes)} classes: {escape(', '.join(predictor.classes))}. It is the "
        f"{predictor.network} of a run of the semi-supervised method {escape(str(result.method))}, trained with "
        "meanteacher from few labels and many unlabeled images.",
        f"## Use\n\n```python\n{use}\n```",
        f"Input: {config['input']}. The images of a batch have one size; they are resized to "
        f"{'×'.join(map(str, predictor.image_size))} ({config['resize']}). Output: {config['output']}.",
        "## Numbers\n\n" + numbers(result, predictor),
        *class_table(result, predictor),
        "## Data and protocol\n\n" + bullets(protocol(result)),
        "## Limits\n\n" + bullets(limits(result, predictor)),
        "## Check of this file\n\n" + bullets(agreement.sentences()),
        f"## License\n\nOf the weights: {escape(license)}. The licenses of the training images and of pretrained "
        "weights, if there were any, may restrict their use.",
    ]
    return "\n\n".join(parts) + "\n"


def metadata(result: Result, predictor: Predictor, format: str, license: str) -> dict:
    """The metadata of the card, as the Hugging Face Hub defines them."""
    error = result.models[predictor.network].error_last
    data = (result.data or {}).get("name", "unknown")
    return {
        "license": license,
        "library_name": {"onnx": "onnx", "pt2": "pytorch", "safetensors": "pytorch"}[format],
        "pipeline_tag": "image-classification",
        "tags": ["semi-supervised-learning", str(result.method), "meanteacher"],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": f"{result.method}-{data}",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": data, "type": data, "split": "test"},
                        "metrics": [{"type": "accuracy", "value": round(1 - error, 6)}],
                    }
                ],
            }
        ],
    }


def numbers(result: Result, predictor: Predictor) -> str:
    """The error on the test images and, if there were any, on the validation images."""
    parts = {"test": result.models, "validation": result.validation}
    lines = []
    for part, scores_by_network in parts.items():
        if scores_by_network:
            scores = scores_by_network[predictor.network]
            error = f"error {100 * scores.error_last:.2f} %{interval_of_error(result, predictor, part)}"
            ece = f", calibration error (ECE) before temperature scaling {100 * scores.ece:.2f} %" if scores.ece else ""
            lines.append(f"{part}: {error}{ece}")
    calibrated = (
        f"The probabilities are calibrated with a temperature of {predictor.temperature:.3f}, fitted to the validation "
        "images."
        if predictor.calibration
        else "The probabilities are not calibrated: the run had no validation images."
    )
    return bullets([*lines, calibrated])


def interval_of_error(result: Result, predictor: Predictor, part: str) -> str:
    """The number of test images and the 95 % interval of the error; empty where they are not known."""
    if part == "test" and result.by_class:
        scores = result.by_class[predictor.network].values()
        images, correct = sum(each.images for each in scores), sum(each.correct for each in scores)
    elif part == "validation" and predictor.calibration:
        images, correct = len(predictor.calibration.correct), sum(predictor.calibration.correct)
    else:
        return ""
    low, high = (100 * value for value in wilson_interval(images - correct, images))
    return f" of {images} images (95 % interval {low:.2f}–{high:.2f} %)"


def class_table(result: Result, predictor: Predictor) -> list[str]:
    """A table of recall and precision by class on the test images; empty for a run of an earlier version."""
    if not result.by_class:
        return []
    rows = [
        [escape(name), scores.images, ratio(scores.correct, scores.images), ratio(scores.correct, scores.predicted)]
        for name, scores in result.by_class[predictor.network].items()
    ]
    headers = ["class", "test images", "recall (%, 95 % interval)", "precision (%, 95 % interval)"]
    return [tabulate(rows, headers, tablefmt="pipe")]


def ratio(hits: int, images: int) -> str:
    if not images:
        return "–"
    low, high = (100 * value for value in wilson_interval(hits, images))
    return f"{100 * hits / images:.1f} ({low:.0f}–{high:.0f})"


def protocol(result: Result) -> list[str]:
    """How the run was trained and measured."""
    data = result.data or {}
    versions = ", ".join(f"{name} {version}" for name, version in (result.versions or {}).items() if version)
    split = (result.settings or {}).get("split") or f"drawn with split_seed {result.split_seed}"
    return [
        f"Data: {escape(str(data.get('name')))}, {data.get('train')} training images, {data.get('test')} test images"
        + (f", fingerprint {data['fingerprint']}" if "fingerprint" in data else ""),
        f"Split: {result.label} labeled images, {escape(str(split))}, digest {result.split_digest}",
        f"Training: {result.steps} steps, seed {result.seed}, run {result.digest}, code {result.commit or 'unknown'}",
        "Measured at the last step, not at the one that is best on the test images",
        f"Command: `{result.command}`",
        f"Versions: {versions}",
    ]


def limits(result: Result, predictor: Predictor) -> list[str]:
    """What the numbers do not say, and what is known to be weak."""
    lines = [
        "Every image gets one of the classes above, also an image of something else.",
        "The numbers hold for images like the test images. Other cameras, places or times can be much worse.",
    ]
    if not predictor.calibration:
        lines.append("The probabilities are not calibrated; do not read them as frequencies.")
    scores = (result.by_class or {}).get(predictor.network, {})
    if few := [name for name, each in scores.items() if each.images < FEW_IMAGES]:
        lines.append(
            f"Fewer than {FEW_IMAGES} test images, so that their numbers are uncertain: {escape(', '.join(few))}."
        )
    if weak := [f"{name} ({100 * each.recall:.0f} %)" for name, each in scores.items() if is_weak(each)]:
        lines.append(f"Less than half of the test images are recognized of: {escape(', '.join(weak))}.")
    return lines


def is_weak(scores: ClassScores) -> bool:
    return scores.recall is not None and scores.recall < 0.5


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def escape(text: str) -> str:
    """Text on one line, with the characters that Markdown would interpret escaped."""
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split()))
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text)
