"""The command `meanteacher demo RUN`: a web page on this machine alone, to drop images on."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meanteacher.config.console import log_to_console
from meanteacher.config.errors import UserError

if TYPE_CHECKING:
    import gradio

    from meanteacher.inference.predictor import Predictor

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
"""The page can be opened on this machine only."""

MOST_CLASSES = 5
"""Classes that are shown for an image, the most probable ones."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options. Raises UserError for a port out of range."""
    parser = argparse.ArgumentParser(
        prog="meanteacher demo",
        description="Open a page on this machine that shows what each network of a finished run says about images "
        "that you drop on it. The images stay on this machine. Ctrl-C ends it.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder, as printed at the end of a run")
    parser.add_argument("--port", type=int, default=7860, help="(%(default)s)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"], help="(%(default)s)")
    options = parser.parse_args(arguments)
    if not 1 <= options.port <= 65535:
        raise UserError(f"--port {options.port}: must be from 1 to 65535")
    return options


def main(arguments: list[str]) -> int:
    """Run the command until Ctrl-C; returns its exit status. Raises UserError for bad input."""
    options = parse(arguments)
    log_to_console(logging.INFO)
    from meanteacher.inference.loading import load

    first = load(options.run, device=options.device)
    others = [load(options.run, name, options.device) for name in first.networks if name != first.network]
    page = build_page(str(options.run), [first, *others])
    launch(page, options.port)
    log.info("page    http://%s:%d (Ctrl-C ends it)", ADDRESS, options.port)
    page.block_thread()
    return 0


def build_page(run: str, predictors: "list[Predictor]") -> "gradio.Blocks":
    """The page. predictors: one for each network, the one to deploy first. Raises UserError if Gradio is missing."""
    gradio = import_gradio()
    names = [predictor.network for predictor in predictors]

    def classify(path: str | None) -> list[dict[str, float] | None]:
        """The probabilities of each network for one image."""
        if path is None:
            return [None] * len(predictors)
        parts = [predictor.predict(path) for predictor in predictors]
        if parts[0].errors[0] is not None:
            raise gradio.Error(f"{Path(path).name} cannot be read ({parts[0].errors[0]})")
        return [dict(zip(part.classes, part.probabilities[0].tolist(), strict=True)) for part in parts]

    def tabulate(paths: list[str] | None) -> list[list[Any]]:
        """A row for each image, with class and probability by each network."""
        if not paths:
            return []
        columns = [list(predictor.predict(paths).rows()) for predictor in predictors]
        rows = zip(*columns, strict=True)
        return [
            [Path(path).name, *(cell for one in row for cell in (one["class"] or one["error"], one["probability"]))]
            for path, row in zip(paths, rows, strict=True)
        ]

    with gradio.Blocks(title=f"meanteacher: {run}", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown(f"### Predictions of the {' and the '.join(names)}")
        gradio.Markdown(describe(predictors[0]))
        with gradio.Tab("One image"), gradio.Row():
            image = gradio.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="image")
            labels = [gradio.Label(num_top_classes=MOST_CLASSES, label=name) for name in names]
        image.change(classify, image, labels, api_name="classify")
        with gradio.Tab("Several images"):
            files = gradio.File(file_count="multiple", file_types=["image"], label="images")
            headers = ["image", *(head for name in names for head in (name, "probability"))]
            table = gradio.Dataframe(headers=headers, interactive=False, wrap=True)
        files.change(tabulate, files, table, api_name="tabulate")
    return page


def describe(predictor: "Predictor") -> str:
    """What the numbers on the page are."""
    calibrated = (
        f"calibrated on {len(predictor.calibration.correct)} validation images"
        if predictor.calibration
        else "not calibrated, because the run had no validation images"
    )
    return f"{len(predictor.classes)} classes. Probabilities are {calibrated}. Every image gets one of the classes."


def import_gradio() -> Any:
    """Import Gradio with its telemetry turned off. Raises UserError if it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs the package gradio: pip install -e '.[demo]'") from None
    return gradio


def launch(page: "gradio.Blocks", port: int) -> None:
    """Serve the page in the background. Raises UserError if the port is in use."""
    import gradio

    try:
        page.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )
    except OSError as error:
        if "port" not in str(error):
            raise
        raise UserError(f"port {port} is in use on {ADDRESS}; choose another --port") from None
