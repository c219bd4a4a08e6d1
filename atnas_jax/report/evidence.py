"""What `launch.meta_test` adds when asked, `evidence` of results.json: paired differences, curves on meta_test."""

from typing import Any

from atnas_jax.report.html import Section, absent, figures, paragraph, table
from atnas_jax.report.read import Record
from atnas_jax.report.style import DASHES, LINES, new_figure, styled

AGAIN = "python -m launch.meta_test --workdir=RUN"
Points = list[dict[str, Any]]


def paired_table(run: Record) -> str:
    """Return the paired differences as HTML, or how to get them."""
    found = run.results.get("evidence", {}).get("paired") or {}
    if not any(found.values()):
        return absent("differences of rows on the same episodes", f"{AGAIN} --paired adds them.")
    body = paragraph(
        "Differences of rows on the same episodes, in points, with 95 % intervals: these say which row is better, "
        "where the intervals of the table overlap."
    )
    for mode, rows in found.items():
        cells = [
            (f"{row['row']} − {row['minus']}", f"{100 * row['difference']:+.2f} ± {100 * row['ci95']:.2f}")
            for row in rows
        ]
        body += table((f"{mode}", "points"), cells)
    if permutation := run.results["evidence"].get("permutation"):
        body += paragraph(
            f"permuted_architecture gives each episode the architecture of another; in "
            f"{permutation['same_genotype']:.1%} of the episodes it is the same one."
        )
    return body


def steps_section(run: Record, save) -> Section:
    """Return accuracy against inner steps."""
    title, modes = "Inner steps", run.results.get("evidence", {}).get("inner_steps")
    if not modes:
        how = f"{AGAIN} --inner_steps_curve=0,1,2,5,10 adds it."
        return Section("steps", title, absent("accuracy against inner steps", how))
    curves = {f"{row}, {mode}": points for mode, rows in modes.items() for row, points in rows.items()}
    most = " at most" * bool(run.config.learner.tolerance)
    caption = f"Accuracy on meta_test episodes after so many inner steps{most}, with 95 % intervals."
    drawn = points_figure(curves, "steps", "inner steps")
    return Section("steps", title, figures([save("inner_steps", drawn, "Accuracy against inner steps", caption)]))


def generations_picture(run: Record, save, key: str, alt: str, caption: str) -> str:
    """Return the curve `search_generations` or `adaptation_generations` as HTML, or how to get it."""
    modes = run.results.get("evidence", {}).get(key)
    if not modes:
        return absent(alt, f"{AGAIN} --generations_curve adds it.")
    return figures([save(key, points_figure(modes, "generation", "generation"), alt, caption)])


@styled
def points_figure(curves: dict[str, Points], axis: str, label: str):
    """Draw curves {name: [{axis, accuracy, ci95}]} with their intervals."""
    figure = new_figure(2.5 + 0.2 * -(-len(curves) // 2))
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        axes.errorbar(
            [point[axis] for point in points], [100 * point["accuracy"] for point in points],
            yerr=[100 * point["ci95"] for point in points], color=LINES[number % len(LINES)], marker="os^D"[number % 4],
            linestyle=DASHES[number % len(DASHES)], markersize=4.5, capsize=2.5, linewidth=1.5, label=name,
        )  # fmt: skip
    axes.set(xlabel=label, ylabel="accuracy, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
