"""A comparison of strategies as lines of text, a JSON file and a picture."""

import os
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from atnas_jax.job.files import write_record

SCHEMA = 1
# Okabe and Ito's colours, told apart by the colour-blind; from the second round on, the dashes tell.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F00")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)))


def comparison_table(record: dict[str, Any]) -> str:
    """Return the comparison as lines of text: median and quartiles over seeds."""
    limit = ""
    if record["limit"]:
        limit = f", {record['limit']} (at most {record['limit_value']:.4g}, {record['over_limit']})"
    lines = [
        f"{record['table']}: {record['genotypes']} genotypes, {record['evaluations']} evaluations, "
        f"{record['seeds']} seeds{limit}",
        f"{'median [quartiles]':28}{'better genotypes left':>28}{'regret':>28}{'infeasible':>12}{'seconds':>9}",
    ]
    for row in record["rows"]:
        left, lost = (_text(row[name], form) for name, form in (("better_left", ".0f"), ("regret", ".3f")))
        lines.append(f"{row['strategy']:28}{left:>28}{lost:>28}{row['returned_infeasible']:12d}{row['seconds']:9.1f}")
    lines.append(
        "better genotypes left: by the fitness told; regret: best reported fitness less that of the one returned;\n"
        "infeasible: runs that return an infeasible one; seconds: with compiling"
    )
    return "\n".join(lines)


def _text(quartiles: list[float | None], form: str) -> str:
    low, middle, high = ("-" if value is None else f"{value:{form}}" for value in quartiles)
    return f"{middle} [{low}, {high}]"


def write_comparison(folder: str, record: dict[str, Any]) -> None:
    """Write comparison.txt, comparison.json and regret.png into the folder, made where absent."""
    write_record(folder, "comparison", comparison_table(record), {"schema": SCHEMA} | record)
    draw(os.path.join(folder, "regret.png"), record)


def draw(path: str, record: dict[str, Any]) -> None:
    """Draw the median regret of each strategy after each evaluation, and the quartiles of random search as a band."""
    figure = Figure((8.6, 4.8), layout="constrained")
    axes = figure.subplots()
    steps = range(1, record["evaluations"] + 1)
    curves = {row["strategy"]: np.asarray(row["curve"], float) for row in record["rows"]}
    seen = np.concatenate([curve[1] for curve in curves.values()])
    least, most = (reduce(seen[seen > 0], initial=1.0) for reduce in (np.min, np.max))
    others = 0
    for name, (low, middle, high) in curves.items():
        if name == "random":
            axes.fill_between(steps, low, high, color="0.88", linewidth=0, label="random, quartiles")
            style = {"color": "black", "linestyle": (0, (2, 1)), "linewidth": 2.2}
        else:
            style = {"color": COLOURS[others % len(COLOURS)], "linestyle": DASHES[others // len(COLOURS) % len(DASHES)]}
            others += 1
        axes.step(steps, middle, where="post", label=name, **({"linewidth": 1.5} | style))
    axes.set_yscale("symlog", linthresh=least, linscale=0.5)  # so that a regret of 0 has a place
    ticks = [0.0, *(10.0 ** np.arange(np.ceil(np.log10(least)), np.ceil(np.log10(most)) + 1))]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(-0.1 * least, 1.3 * most)
    axes.set(xlim=(1, record["evaluations"]), xlabel="evaluations", ylabel="regret of the best told, median of seeds")
    axes.set_title(f"{os.path.basename(record['table'])}, {record['seeds']} seeds {record['limit']}", fontsize="medium")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=130)
