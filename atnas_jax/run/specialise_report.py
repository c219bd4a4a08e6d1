"""What a specialisation found as lines of text, a JSON file and a picture."""

import os
from typing import Any

from matplotlib.figure import Figure

from atnas_jax.run.compare_report import COLOURS
from atnas_jax.run.files import write_record

SCHEMA = 1


def specialise_table(record: dict[str, Any]) -> str:
    """Return the comparison as lines of text."""
    images = ", ".join(f"{count} {part}" for part, count in record["images"].items())
    lines = [
        f"{record['data']}: {len(record['classes'])} classes, {images} images, seed {record['seed']}",
        f"{'row':17}{'valid %':>9}{'test %':>9}{'params':>10}{'evaluations':>13}{'search s':>10}{'training s':>12}",
    ]
    for name, row in record["rows"].items():
        lines.append(
            f"{name:17}{100 * row['valid']:9.2f}{100 * row['test']:9.2f}{row['params']:10,}{row['evaluations']:13}"
            f"{row['search_s']:10.1f}{row['train_s']:12.1f}"
        )
    if "reached" in record:
        lines.append(_reached(record["reached"], record["rows"]["scratch"]["search_s"]))
    lines.append("seconds are without compiling; valid chose the architectures, test was scored once a network")
    return "\n".join(lines)


def _reached(reached: dict[str, float | None], search_s: float) -> str:
    aim = f"the {100 * reached['accuracy']:.2f} % on valid with which scratch ended"
    if reached["seconds"] is None:
        return f"adapted never reached {aim}"
    return (
        f"adapted reached {aim} after {reached['seconds']:.1f} s, search and training: "
        f"{100 * reached['share']:.0f} % of the {search_s:.1f} s that scratch searched"
    )


def write_specialised(folder: str, record: dict[str, Any]) -> None:
    """Write specialise.txt, specialise.json and specialise.png into the folder, made where absent."""
    write_record(folder, "specialise", specialise_table(record), {"schema": SCHEMA} | record)
    draw(os.path.join(folder, "specialise.png"), record)


def draw(path: str, record: dict[str, Any]) -> None:
    """Draw accuracy on valid against total seconds; a dot is where a search ends and the training begins."""
    figure = Figure((8.6, 4.8), layout="constrained")
    axes = figure.subplots()
    for colour, (name, row) in zip(COLOURS, record["rows"].items(), strict=False):
        seconds, accuracies = zip(*row["curve"], strict=True)
        axes.plot(seconds, [100 * a for a in accuracies], color=colour, linewidth=1.8, label=name.replace("_", " "))
        if row["evaluations"]:
            at = row["evaluations"] - 1
            axes.plot(seconds[at], 100 * accuracies[at], "o", color=colour, markersize=7)
    axes.set_xscale("log")
    axes.set(xlabel="total seconds, without compiling", ylabel="accuracy on valid, %")
    title = f"{os.path.basename(record['data'])}, {len(record['classes'])} classes; dot: search ends, training begins"
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=130)
