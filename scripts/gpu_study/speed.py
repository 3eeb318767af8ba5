"""The stage `speed`: the benchmark, and several processes at once on one GPU."""

from pathlib import Path

from pieces import Piece, Study

from meanteacher.benchmark.command import OVERRIDABLE

METHODS = ["mean_teacher", "fixmatch"]
MODELS = ["wrn_28_2", "wrn_28_8"]


def pieces(study: Study, overrides: dict[str, str]) -> tuple[list[Piece], int]:
    """One after another, because the pieces share the GPU. The second one is what other stages need."""
    overrides = {"trainer.device": "cuda", "--steps": "30"} | overrides
    methods, models = chosen(overrides, "method", METHODS), chosen(overrides, "model", MODELS)
    first, *others = [benchmark(study, method, model, overrides) for model in models for method in methods]
    return [first, measure_at_once(study, methods[0], models[0], overrides), *others], 1


def chosen(overrides: dict[str, str], key: str, default: list[str]) -> list[str]:
    """The values of a stage's list, or those of the override that replaces it."""
    return overrides[key].split(",") if key in overrides else default


def benchmark_arguments(method: str, model: str, overrides: dict[str, str]) -> list[str]:
    """Arguments of `meanteacher benchmark`: those of `overrides` that it takes."""
    taken = [f"{key}={value}" for key, value in overrides.items() if f"{key}=".startswith(("--", *OVERRIDABLE))]
    return [f"--method={method}", f"--model={model}", *taken]


def benchmark(study: Study, method: str, model: str, overrides: dict[str, str]) -> Piece:
    """The plain loop and this package's step in turns, and the profile of a step."""
    name = f"benchmark-{method}-{model}"
    result = study.folder / f"{name}-measured.json"
    files = [f"--json={result}", f"--picture={study.folder / name}.png"]
    arguments = ("-m", "meanteacher", "benchmark", *benchmark_arguments(method, model, overrides), *files)
    return Piece(name, f"speed/benchmark {model}", arguments, 150, result)


def at_once_result(study: Study) -> Path:
    """Where the speed of several processes at once is written."""
    return study.out / "speed" / "at-once-measured.json"


def measure_at_once(study: Study, method: str, model: str, overrides: dict[str, str]) -> Piece:
    """The speed of 1, 2 and 4 processes at once on the GPU."""
    result, program = at_once_result(study), str(Path(__file__).with_name("at_once.py"))
    arguments = (program, str(result), *benchmark_arguments(method, model, overrides))
    return Piece("at-once", "speed/at once", arguments, 150, result)
