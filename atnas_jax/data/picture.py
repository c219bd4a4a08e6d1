"""A picture of episodes, for the eye."""

from pathlib import Path

import numpy as np

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.data.spec import EpisodeSpec
from atnas_jax.data.table import DataSet

_EPISODES = 3
_MAX_ROWS, _MAX_IMAGES = 10, 12  # classes, and images a class, that are drawn; the title says if there are more
_SIDE_BY_SIDE = 8  # images a class up to which the episodes stand beside one another
_CELL = 0.62  # inches of an image


def draw_episodes(dataset: DataSet, split: str, spec: EpisodeSpec, seed: int, out: str) -> None:
    """Write a PNG of the first fixed episodes of `split`: a row a class, support on the left, queries on the right.

    Args:
        dataset: the data.
        split: one of `table.SPLITS`.
        spec: must fit, see `check_episode_spec`.
        seed: of the episodes.
        out: the file to write; its folder must exist.

    Raises:
        FileNotFoundError: the folder of `out` does not exist.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder = Path(out).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist: type --out in a folder that does")
    episodes = fixed_episodes(
        dataset.fingerprint, split, seed, np.arange(_EPISODES), dataset.table, spec, rotations=spec.rotations
    )
    rows, shots = min(spec.ways, _MAX_ROWS), min(spec.shots, _MAX_IMAGES // 2)
    queries = min(spec.queries, _MAX_IMAGES - shots)
    columns = shots + queries
    grid = (1, _EPISODES) if columns <= _SIDE_BY_SIDE else (_EPISODES, 1)
    size = (grid[1] * (columns * _CELL + 0.9), grid[0] * (rows * _CELL + 0.7) + 0.5)
    figure, axes = plt.subplots(*grid, figsize=size, squeeze=False)
    for t, axis in enumerate(axes.flat):
        support, query = (
            _grid(np.asarray(x[t]).reshape(spec.ways, per_class, *x.shape[2:])[:rows, :shown])
            for x, per_class, shown in (
                (episodes.support_x, spec.shots, shots),
                (episodes.query_x, spec.queries, queries),
            )
        )
        _draw(axis, support, query, rows, (f"support ({spec.shots})", f"queries ({spec.queries})"))
        axis.set_title(f"episode {t}", fontsize=9)
    whole = (rows, columns) == (spec.ways, spec.shots + spec.queries)
    title = f"{dataset.source}, {split}: {spec.ways}-way {spec.shots}-shot, {spec.queries} queries a class"
    figure.suptitle(title + ("" if whole else f", {rows} classes x {columns} images shown"), fontsize=10)
    figure.tight_layout()
    figure.savefig(out, dpi=150, format="png")
    plt.close(figure)


def _draw(axis, support: np.ndarray, query: np.ndarray, rows: int, names: tuple[str, str]) -> None:
    """Draw the sheets of support and queries, float32 [height,width,C] each, side by side."""
    height = support.shape[0] / rows
    gap = np.ones((support.shape[0], max(3, int(height) // 4), support.shape[2]), np.float32)
    sheet = np.concatenate([support, gap, query], axis=1)
    axis.imshow(np.repeat(sheet, 3, axis=2) if sheet.shape[2] == 1 else sheet, interpolation="nearest")
    left, right = support.shape[1], sheet.shape[1]
    axis.set_xticks([left / 2, (left + gap.shape[1] + right) / 2], names)
    axis.set_yticks([(k + 0.5) * height for k in range(rows)], [str(k) for k in range(rows)], fontsize=8)
    axis.set_ylabel("label", fontsize=8)
    axis.tick_params(length=0, labelsize=8)
    for edge in axis.spines.values():
        edge.set_visible(False)


def _grid(blocks: np.ndarray) -> np.ndarray:
    """Lay images float32 [rows,columns,H,W,C] out as one sheet with a line of 1 pixel between them."""
    rows, columns, height, width, channels = blocks.shape
    sheet = np.full((rows, columns, height + 1, width + 1, channels), 0.5, np.float32)
    sheet[:, :, :height, :width] = blocks
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), columns * (width + 1), channels)
