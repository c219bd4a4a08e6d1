"""What genotypes choose: ops per generation with a warning on collapse, and slots that differ between episodes."""

from collections import Counter

import numpy as np

from atnas_jax.report.evidence import generations_picture
from atnas_jax.report.html import Section, absent, figures, paragraph
from atnas_jax.report.read import Record
from atnas_jax.report.style import OPS, ink, new_figure, styled
from atnas_jax.space.chain import DEPTH_SLOT, blocks_of_slots
from atnas_jax.space.slots import SearchSpace

FREE = ("max3", "avg3", "identity", "none")  # ops without parameters
OFF = "off"  # the slots of a block beyond the depth
MOST_FREE, MOST_OF_ONE, LEAST_DISTINCT = 0.6, 0.9, 0.25  # what is called a collapse
GREYS = ("#3A3A3A", "#7A7A7A", "#A8A8A8", "#CFCFCF", "#E8E8E8", "#5C5C5C", "#929292", "#BDBDBD")


def chosen_names(space: SearchSpace, genotypes: np.ndarray) -> list[list[str]]:
    """Return, per slot, the choice of every genotype int32 [n,E] by name; `OFF` where a chain's depth leaves it out."""
    genotypes = np.asarray(genotypes)
    columns = [[choices[value] for value in genotypes[:, slot]] for slot, choices in enumerate(space.choices)]
    if space.family == "chain":
        depths = np.asarray(space.spec.depths)[genotypes[:, DEPTH_SLOT]]
        for slot, block in enumerate(blocks_of_slots(space)):
            columns[slot] = [name if block < depth else OFF for name, depth in zip(columns[slot], depths, strict=True)]
    return columns


def op_shares(space: SearchSpace, genotypes: np.ndarray) -> dict[str, float]:
    """Return the share of each op among the active op slots of genotypes int32 [n,E]."""
    columns = chosen_names(space, genotypes)
    counts = Counter(
        name for slot, column in enumerate(columns) if _is_op(space, slot) for name in column if name != OFF
    )
    return {op: counts[op] / max(1, counts.total()) for op in OPS if op in _ops(space)}


def collapse(space: SearchSpace, genotypes: np.ndarray) -> list[str]:
    """Return what is suspicious about a population int32 [P,E], a sentence each; see the limits above.

    A search that ends in operations without parameters is the known failure of DARTS (Zela et al. 2020, section 3).
    """
    shares, said = op_shares(space, genotypes), []
    free = sum(share for op, share in shares.items() if op in FREE)
    if free >= MOST_FREE:
        said.append(f"{free:.0%} of the ops have no parameters ({', '.join(op for op in FREE if shares.get(op))}).")
    op, most = max(shares.items(), key=lambda pair: pair[1])
    if most >= MOST_OF_ONE and len(shares) > 1:
        said.append(f"{most:.0%} of the ops are {op}, of {len(shares)} that the space has.")
    distinct = len(np.unique(np.asarray(genotypes), axis=0))
    if distinct <= LEAST_DISTINCT * len(genotypes):
        said.append(f"only {distinct} of {len(genotypes)} genotypes differ from each other.")
    return said


def ops_section(run: Record, save) -> Section:
    """Return the op histogram per generation."""
    if not run.generations:
        body = absent("ops per generation", "This run has no generations.jsonl; launch.search writes it from now on.")
        return Section("ops", "Ops per generation", body)
    rows = {row["generation"]: op_shares(run.space, row["genotypes"]) for row in run.generations}
    last = run.generations[-1]["genotypes"]
    said = collapse(run.space, last)
    body = "".join(paragraph(f"Collapse of the last generation: {sentence}", "warning") for sentence in said)
    picture = save(
        "ops",
        ops_figure(rows),
        "Share of each op in each generation",
        "Share of each op among the active op slots of the genotypes of a generation. Hatched: no parameters.",
    )
    if not said:
        body += paragraph(
            f"No collapse in the last generation: less than {MOST_FREE:.0%} of its ops have no parameters, no op has "
            f"{MOST_OF_ONE:.0%} of the slots, and {len(np.unique(last, axis=0))} of {len(last)} genotypes are distinct."
        )
    return Section("ops", "Ops per generation", body + figures([picture]))


@styled
def ops_figure(rows: dict[int, dict[str, float]]):
    """Draw one stacked bar per generation."""
    figure = new_figure(3.4)
    axes = figure.subplots()
    generations, base = list(rows), np.zeros(len(rows))
    for op in next(iter(rows.values())):
        colour, hatch = OPS[op]
        heights = np.asarray([100 * shares[op] for shares in rows.values()])
        axes.bar(generations, heights, 0.85, bottom=base, color=colour, hatch=hatch, edgecolor="0.3", linewidth=0.4,
                 label=op)  # fmt: skip
        base += heights
    axes.set(xlabel="generation", ylabel="share of op slots, %", ylim=(0, 100))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def episodes_section(run: Record, save) -> Section:
    """Return where the architectures chosen for different episodes differ."""
    title = "Architectures by episode"
    if "chosen/adapted" not in run.shown:
        how = "python -m launch.meta_test --workdir=RUN writes them, where meta_test.rows has 'adapted'."
        return Section("choices", title, absent("the architectures chosen for each episode", how))
    chosen = run.shown["chosen/adapted"]
    columns = chosen_names(run.space, chosen)
    counts = {name: Counter(column) for name, column in zip(run.space.names, columns, strict=True)}
    distinct = len(set(zip(*columns, strict=True)))
    differ = [name for name, count in counts.items() if len(count) > 1]
    body = paragraph(
        f"Of {len(chosen)} episodes, row adapted has {distinct} distinct architectures; "
        + (f"they differ in {len(differ)} of {len(counts)} slots." if differ else "no slot ever differs.")
    )
    order = [[*choices, OFF] for choices in run.space.choices]
    picture = save(
        "choices",
        slots_figure(counts, order),
        "How often each choice of each slot was taken over episodes",
        "How often the architectures of row adapted take each choice of a slot. off: the depth leaves the block out.",
    )
    curve = generations_picture(
        run, save, "adaptation_generations", "accuracy after each generation of the search on a support",
        "Accuracy on meta_test after each generation of the search on the support of an episode; 0 is the shared best.",
    )  # fmt: skip
    return Section("choices", title, body + figures([picture]) + curve)


@styled
def slots_figure(counts: dict[str, Counter], order: list[list[str]]):
    """Draw one stacked bar per slot, its choices from left to right in the order of the space."""
    figure = new_figure(0.7 + 0.27 * len(counts))
    axes = figure.subplots()
    for y, (count, choices) in enumerate(zip(counts.values(), order, strict=True)):
        left = 0.0
        for number, name in enumerate(choices):
            share = 100 * count[name] / count.total()
            if not share:
                continue
            colour, hatch = OPS.get(name, (GREYS[number % len(GREYS)], ""))
            colour = "white" if name == OFF else colour
            axes.barh(y, share, 0.8, left=left, color=colour, hatch=hatch, edgecolor="0.3", linewidth=0.4)
            if share >= 3.2 * len(name):
                backing = {"boxstyle": "round,pad=0.12", "facecolor": colour, "edgecolor": "none"} if hatch else None
                axes.text(left + share / 2, y, name, ha="center", va="center", fontsize=8, color=ink(colour),
                          bbox=backing)  # fmt: skip
            left += share
    axes.set_yticks(range(len(counts)), list(counts))
    axes.set(xlim=(0, 100), ylim=(len(counts) - 0.4, -0.6), xlabel="share of episodes, %")
    axes.grid(visible=False)
    return figure


def _is_op(space: SearchSpace, slot: int) -> bool:
    return space.names[slot].split(".")[-1].startswith("op")


def _ops(space: SearchSpace) -> set[str]:
    return {op for slot, choices in enumerate(space.choices) if _is_op(space, slot) for op in choices}
