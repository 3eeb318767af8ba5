"""Draws docs/data_flow.svg, the picture of docs/how_it_works.md: python docs/draw_data_flow.py."""

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROWS = (
    (
        "Once a run",
        "#cfe6f5",
        "#0072B2",
        (
            ("images", "files on disk,\nor a download", "dataset="),
            ("decoded data set", "uint8 [N, C, H, W]\ntargets int64 [N]", "data/datasets, folder"),
            ("split", "labeled, unlabeled and\nvalidation positions", "data/splits"),
            ("image store", "uint8, on the device\nor memory-mapped", "data/cache, loader"),
        ),
    ),
    (
        "Every step",
        "#fde2b3",
        "#C77C00",
        (
            ("batch", "positions drawn from\n(seed, step); uint8 [B, C, H, W]", "data/loader"),
            ("views", "weak and strong,\nfloat32 [B, C, H, W]", "data/augment"),
            ("loss", "student and teacher\n→ one scalar", "methods/<name>"),
            ("update", "gradient, optimizer,\nteacher ← EMA(student)", "training/train_step"),
        ),
    ),
    (
        "Every evaluation",
        "#bfe5d8",
        "#007A5A",
        (
            ("test part", "every image, normalized,\nnot augmented", "data/augment"),
            ("logits", "of student and teacher,\nfloat32 [N, K]", "training/evaluator"),
            ("error", "error, cross-entropy\nand calibration error", "training/evaluator"),
            ("record", "metrics.jsonl, W&B,\nresult.json at the end", "loggers, runs"),
        ),
    ),
    (
        "After the runs",
        "#f6cfe0",
        "#B0417F",
        (
            ("results", "result.json of every\nmethod, label count, seed", "runs"),
            ("statistics", "mean ± std, differences\npaired by seed, intervals", "comparison/statistics"),
            ("one sentence", "which method is ahead, and\nwhether that is noise", "comparison/verdicts"),
            ("comparison", "Markdown, HTML, CSV,\nJSON and a picture", "comparison"),
        ),
    ),
)
WIDTH, HEIGHT, STEP_X, STEP_Y, LEFT = 2.6, 1.18, 3.15, 1.75, 1.9


def draw_box(ax, x: float, y: float, fill: str, edge: str, title: str, text: str, module: str) -> None:
    corner = (x - WIDTH / 2, y - HEIGHT / 2)
    ax.add_patch(
        FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=.1", fc=fill, ec=edge, lw=1.2)
    )
    ax.text(x, y + 0.37, title, ha="center", va="center", fontsize=9.5, weight="bold")
    ax.text(x, y - 0.01, text, ha="center", va="center", fontsize=8, linespacing=1.2)
    ax.text(x, y - 0.42, module, ha="center", va="center", fontsize=7.2, color="#444444", family="monospace")


def draw_arrow(ax, start: tuple[float, float], end: tuple[float, float], shape: str = "arc3") -> None:
    style = {"arrowstyle": "-|>", "lw": 1.2, "color": "#222222", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    ax.annotate("", end, start, arrowprops=style | {"connectionstyle": shape})


def draw() -> None:
    figure, ax = plt.subplots(figsize=(10.6, 5.5))
    last = LEFT + 3 * STEP_X
    for row, (label, fill, edge, boxes) in enumerate(ROWS):
        y = -row * STEP_Y
        ax.text(0.45, y, label.replace(" ", "\n", 1), ha="right", va="center", fontsize=9.5, weight="bold", color=edge)
        for column, box in enumerate(boxes):
            x = LEFT + column * STEP_X
            draw_box(ax, x, y, fill, edge, *box)
            if column:
                draw_arrow(ax, (x - STEP_X + WIDTH / 2, y), (x - WIDTH / 2, y))
        if row:  # from the end of the row above to the start of this one
            above, middle = y + STEP_Y - HEIGHT / 2, y + STEP_Y / 2
            ax.plot([last, last, LEFT], [above, middle, middle], color="#222222", lw=1.2, solid_joinstyle="round")
            draw_arrow(ax, (LEFT, middle), (LEFT, y + HEIGHT / 2))
    ax.set(xlim=(-0.9, last + WIDTH / 2 + 0.1), ylim=(-3 * STEP_Y - HEIGHT / 2 - 0.1, HEIGHT / 2 + 0.1))
    ax.set_axis_off()
    ax.set_position((0, 0, 1, 1))
    plt.rcParams["svg.hashsalt"] = "meanteacher"
    figure.savefig(Path(__file__).with_name("data_flow.svg"), metadata={"Date": None})


if __name__ == "__main__":
    draw()
