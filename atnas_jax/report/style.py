"""How figures look and where they go: PNG and SVG files for papers, the same SVG in the page."""

import functools
import io
import os
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from atnas_jax.report.html import picture

# Okabe and Ito's colours, told apart by the colour-blind; marks, dashes or hatches tell the same once more.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
LINES = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, "#7F5F00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
OPS = {  # op -> (colour, hatch); what has no parameters is hatched
    "conv1": (SKY, ""),
    "conv3": (BLUE, ""),
    "conv5": ("#00324F", ""),
    "dil3": (GREEN, ""),
    "sep3": (ORANGE, ""),
    "sep5": (VERMILION, ""),
    "max3": (PINK, "////"),
    "avg3": ("#F0E442", "////"),
    "identity": ("#D0D0D0", "...."),
    "none": ("#FFFFFF", "xxxx"),
}
WIDTH = 4.2  # inches: one column of a paper, and of a phone
SETTINGS = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",  # looks the same on every machine
    "svg.hashsalt": "atnas_jax",
}


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Return `draw` so that what it makes has the look of this file."""

    @functools.wraps(draw)
    def call(*args, **kwargs):
        with matplotlib.rc_context(SETTINGS):
            return draw(*args, **kwargs)

    return call


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of so many inches whose parts make room for one another."""
    return Figure((width, height), layout="constrained")


def saver(folder: str) -> Callable[[str, Figure, str, str], str]:
    """Return save(name, figure, alt, caption) -> HTML; it writes NAME.png and NAME.svg into the folder."""

    @styled
    def save(name: str, figure: Figure, alt: str, caption: str) -> str:
        os.makedirs(folder, exist_ok=True)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", dpi=200, metadata={"Date": None})
        figure.savefig(os.path.join(folder, f"{name}.png"), format="png", dpi=200)
        with open(os.path.join(folder, f"{name}.svg"), "wb") as file:
            file.write(svg.getvalue())
        return picture(svg.getvalue(), alt, caption)

    return save


def ink(colour: str) -> str:
    """Return black or white, whichever reads better on a colour (relative luminance, WCAG 2.1)."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)
    )
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def short(number: float) -> str:
    """Return a count as people say it: 950, 12.3k, 4.56M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
