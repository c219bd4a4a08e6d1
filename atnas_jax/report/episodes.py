"""A few meta-test episodes as pictures: support, queries, and what was predicted, mistakes marked."""

import numpy as np
from matplotlib.patches import Rectangle

from atnas_jax.report.html import Section, absent, figures, paragraph
from atnas_jax.report.read import Record
from atnas_jax.report.style import VERMILION, new_figure, styled
from atnas_jax.space.text import to_text

NEEDED = ("row", "genotypes", "support", "query", "predicted", "accuracy")


def section(run: Record, save) -> Section:
    """Return the pictures of the first meta-test episodes."""
    title = "Episodes"
    if any(name not in run.shown for name in NEEDED):
        how = "python -m launch.meta_test --workdir=RUN writes meta_test.npz."
        return Section("episodes", title, absent("pictures of meta-test episodes", how))
    row, pictures = str(run.shown["row"]), []
    for number, genotype in enumerate(run.shown["genotypes"]):
        support, query, predicted = (run.shown[name][number] for name in ("support", "query", "predicted"))
        accuracy = run.shown["accuracy"][number]
        figure = episode_figure(support, query, predicted)
        wrong = int((predicted != np.arange(len(predicted))[:, None]).sum())
        alt = f"Episode {number}: {len(support)} classes, {wrong} of {predicted.size} queries shown are wrong"
        caption = f"Episode {number}: accuracy {accuracy:.1%} of all queries, by {to_text(run.space, genotype)}"
        pictures.append(save(f"episode_{number}", figure, alt, caption))
    body = paragraph(
        f"The first episodes of the meta-test, not picked, by the architectures and weights of row {row}. A row is a "
        "class: support images left of the line, queries right of it. A mistake has a thick frame and the number of "
        "the class that was predicted."
    )
    return Section("episodes", title, body + figures(pictures))


@styled
def episode_figure(support: np.ndarray, query: np.ndarray, predicted: np.ndarray):
    """Draw one episode.

    Args:
        support: uint8 [N,K,H,W,C].
        query: uint8 [N,q,H,W,C].
        predicted: int [N,q], the class that each query was taken for; its own is the number of its row.
    """
    ways, shots = support.shape[:2]
    columns, gap = shots + query.shape[1], 0.35
    side = 3.85 / (columns + gap)  # inches of an image
    figure = new_figure(side * ways + 0.5)
    axes = figure.subplots()
    for label in range(ways):
        for column in range(columns):
            image = support[label, column] if column < shots else query[label, column - shots]
            x = column + gap * (column >= shots)
            axes.imshow(_rgb(image), extent=(x + 0.03, x + 0.97, label + 0.97, label + 0.03), interpolation="nearest")
            if column >= shots and predicted[label, column - shots] != label:
                _mark(axes, x, label, predicted[label, column - shots], side)
    axes.set(xlim=(-0.05, columns + gap + 0.05), ylim=(ways + 0.05, -0.05), aspect="equal")
    axes.axvline(shots + gap / 2, color="0.3", linewidth=1)
    axes.set_yticks(np.arange(ways) + 0.5, [str(label) for label in range(ways)])
    axes.set_xticks([shots / 2, shots + gap + query.shape[1] / 2], ["support", "queries"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _mark(axes, x: float, y: float, label: int, side: float) -> None:
    frame = Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=VERMILION, linewidth=2.2)
    axes.add_patch(frame)
    axes.text(
        x + 0.9, y + 0.9, str(label), ha="right", va="bottom", fontsize=max(6.5, min(9, 24 * side)), weight="bold",
        color="white", bbox={"boxstyle": "square,pad=0.12", "facecolor": VERMILION, "edgecolor": "none"},
    )  # fmt: skip


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
