"""The numbers of every method stay what they are: moving or rewriting code changes none of them.

`tests/golden/methods.json` holds, for every method, the loss and its terms in each of 10 steps on the digits, the
evaluation after them and a hash of the final weights, computed on a CPU in fp32 with one thread. The environment is
that of the whole file, unless a method that was added on another machine has its own. A change that alters numbers on
purpose renews the file in the same commit, with the reason in its message, and a new method is added to it:

    python tests/golden/test_golden.py              # all methods
    python tests/golden/test_golden.py dash uda     # these alone, with the machine that they were measured on
"""

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import options, settings

from meanteacher.config.settings import Choices, Settings
from meanteacher.runs import report
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session

FILE = Path(__file__).with_name("methods.json")
STEPS = 10
PROTOCOL = (
    "experiment=quickstart",
    "label=40",
    f"steps={STEPS}",
    f"eval_every={STEPS}",
    "logger=jsonl",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.log_every=1",
    "optimizer.lr=0.01",
)
FIRST, LATER = 1e-6, 0.1
"""Relative tolerances of the loss in the first step and in later ones, with another processor or torch: rounding errors
grow up to tenfold per step. The hash is then skipped."""

LOW_THRESHOLDS = {"comatch": 0.11, "noisy_student": 0.11, "simmatch": 0.11}
"""Methods whose first pseudo-labels are close to uniform."""


def digest(tensors: list[torch.Tensor]) -> str:
    """A hash of the values alone, whatever their names and order."""
    hashes = sorted(hashlib.blake2b(t.detach().contiguous().numpy().tobytes()).hexdigest() for t in tensors)
    return hashlib.blake2b("".join(hashes).encode(), digest_size=10).hexdigest()


def weights(models: dict[str, torch.nn.Module]) -> list[torch.Tensor]:
    return [tensor for model in models.values() for tensor in model.state_dict().values()]


def is_loss(name: str) -> bool:
    """Whether a metric comes from the method. The scores of pseudo-labels are computed outside and change no number."""
    return name.startswith("train/") and not name.startswith("train/pseudo_label_")


def measure(method: str) -> dict:
    """Losses, evaluation and hash of a short run. Thresholds are such that pseudo-labels count early."""
    chosen = settings(*PROTOCOL, f"method={method}")
    if "threshold" in (chosen["method"].get("weighting") or {}):
        chosen["method"]["weighting"]["threshold"] = LOW_THRESHOLDS.get(method, 0.17)
    if "minimum" in chosen["method"]:
        chosen["method"]["minimum"] = 2.0
    choices = Choices(dataset="digits", model="wrn_10_1", method=method, experiment="quickstart")
    with tempfile.TemporaryDirectory() as folder, RunDir(Path(folder) / "run", "", False) as run_dir:
        session = Session(Settings.parse(chosen), choices, run_dir, show_progress=False)
        session.fit()
        trainer = session.trainer
        history = trainer.history
        return {
            "steps": [{k: v for k, v in record.items() if is_loss(k)} for record in history[:STEPS]],
            "evaluation": {k: v for k, v in history[-1].items() if k.startswith("test/")},
            "weights": digest(weights(trainer.models())),
        }


def environment() -> dict:
    capability = torch.backends.cpu.get_cpu_capability()
    return {"processor": report.cpu_name(), "capability": capability, "torch": torch.__version__}


@pytest.mark.parametrize("method", json.loads(FILE.read_text())["methods"])
def test_the_numbers_of_a_method_stay_what_they_are(method):
    golden = json.loads(FILE.read_text())
    measured, expected = measure(method), golden["methods"][method]
    machine = expected.pop("environment", golden["environment"])
    if environment() == machine:
        assert measured == expected
        return
    warnings.warn(f"made on {machine}: losses are compared within {FIRST} and {LATER}", stacklevel=1)
    for step, (one, other) in enumerate(zip(measured["steps"], expected["steps"], strict=True)):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=LATER if step else FIRST)


if __name__ == "__main__":
    content = {"environment": environment(), "methods": {}}
    if sys.argv[1:]:
        content = json.loads(FILE.read_text())
        content["methods"] |= {name: measure(name) | {"environment": environment()} for name in sys.argv[1:]}
    else:
        content["methods"] = {name: measure(name) for name in options("method")}
    content["methods"] = dict(sorted(content["methods"].items()))
    FILE.write_text(json.dumps(content, indent=1) + "\n")
