"""The rows of a benchmark as a table, a JSON file and a picture."""

import json
from typing import Any

from matplotlib.figure import Figure

from atnas_jax.job.files import write_whole

SCHEMA = 1


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as lines of text: rate, GFLOP/s, shares of the peaks, compiling, and the ratio of each other."""
    lines = [
        f"{'':42}{'ms':>9}{'a second':>10}{'GFLOP/s':>9}{'of GEMM':>9}{'of conv':>9}{'compile s':>11}{'temp MB':>9}  "
        "others (x slower)"
    ]
    for row in rows:
        others = ", ".join(f"{name} {other['ratio']:.2f}x" for name, other in row["others"].items())
        lines.append(
            f"{row['work']:42}{1e3 * row['seconds']:9.1f}{row['per_second']:10.1f}{row['gflops']:9.1f}"
            f"{row['share_of_gemm']:9.0%}{row['share_of_conv_gemm']:9.0%}{row['compile_s']:11.1f}{row['temp_mb']:9.1f}"
            f"  {others}"
        )
    return "\n".join(lines)


def write(path: str, record: dict[str, Any]) -> None:
    """Write a record of a benchmark as JSON, whole or not at all."""
    write_whole(path, json.dumps({"schema": SCHEMA} | record, indent=2))


def draw(path: str, rows: list[dict[str, Any]]) -> None:
    """Draw how time grows with each size, beside the line of proportional growth; nothing without such rows."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        work, _, last = row["work"].rpartition(", ")
        if "=" in last:
            name, value = last.split("=")
            curves.setdefault((work, name), []).append((float(value), row["seconds"]))
    if not curves:
        return
    across = min(len(curves), 3)
    down = -(-len(curves) // across)
    figure = Figure((3.4 * across, 2.8 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).reshape(-1)
    for axes, ((work, name), points) in zip(panels, curves.items()):
        x, y = [value for value, _ in points], [1e3 * seconds for _, seconds in points]
        axes.loglog(x, y, "o-", label="measured")
        axes.loglog(x, [y[0] * value / x[0] for value in x], ":", color="grey", label="proportional")
        axes.minorticks_off()
        axes.set(xlabel=name, ylabel="ms", title=work, xticks=x, xticklabels=[f"{value:g}" for value in x])
        axes.set(yticks=y, yticklabels=[f"{value:.3g}" for value in y])
        axes.legend(fontsize="small")
    for axes in panels[len(curves) :]:
        axes.remove()
    figure.savefig(path, dpi=100)
