"""The found architecture: its stack of parts with what each takes of the whole, and for cells their graphs."""

from typing import NamedTuple

from matplotlib.patches import FancyBboxPatch

from atnas_jax.report.cells import cell_figure
from atnas_jax.report.cost import Part, edge_shares, parts_of
from atnas_jax.report.html import Section, absent, escape, figures, paragraph, table
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, OPS, ORANGE, new_figure, short, styled
from atnas_jax.space.cell import CELLS, cell_resolutions
from atnas_jax.space.chain import DEPTH_SLOT, chain_resolutions, op_slot, pooled_size, pools_last, width_slot
from atnas_jax.space.text import to_text

WORDS = {
    "conv1": "1×1 convolution",
    "conv3": "3×3 convolution",
    "conv5": "5×5 convolution",
    "dil3": "3×3 convolution, dilation 2",
    "sep3": "3×3 depthwise separable",
    "sep5": "5×5 depthwise separable",
    "max3": "3×3 max-pooling",
    "avg3": "3×3 average pooling",
    "identity": "identity",
    "none": "zero",
}
BRIEF = {"dil3": "3×3 dilated", "sep3": "3×3 separable", "sep5": "5×5 separable", "avg3": "3×3 mean-pooling"}
ROW = 0.62  # inches of a part


class Line(NamedTuple):
    """A row of the stack."""

    bold: str
    small: str
    op: str  # "" where it is none
    part: Part | None
    size: str  # of its output


def section(run: Record, save) -> Section:
    """Return the drawing of the shared best architecture and the table of its parts."""
    title = "Architecture"
    if run.genotype is None:
        body = absent("the found architecture", "No generation has been held yet; launch.search goes on with the run.")
        return Section("architecture", title, body)
    text, parts = to_text(run.space, run.genotype), parts_of(run)
    body = f"<p><code>{escape(text)}</code></p>"
    if not parts:
        body += absent("shares of parameters and MACs", "They need meta_network.npz, which a finished run writes.")
    stack = lines_of(run, parts)
    pictures = [
        save(
            "architecture", stack_figure(stack), f"The parts of {text}, from the image down",
            "From the image down: the parts, the size of what each hands on, and its share of parameters and MACs.",
        )
    ]  # fmt: skip
    if run.space.family == "cell":
        shares = edge_shares(run, parts)
        for kind in used_kinds(run):
            caption = (
                f"The {kind} cell. Each node adds two ops: the left arc on its earlier state, the right one on the "
                "later. Beneath an op with parameters: its share of parameters | MACs, over all cells of this kind."
            )
            drawn = cell_figure(run.space, run.genotype, kind, shares.get(kind, {}))
            pictures.append(save(f"cell_{kind}", drawn, f"Graph of the {kind} cell of {text}", caption))
    body += figures(pictures)
    if parts:
        rows = [(p.name, f"{p.params:,}", f"{p.shares[0]:.1%}", f"{p.macs:,}", f"{p.shares[1]:.1%}") for p in parts] + [
            ("all", f"{sum(p.params for p in parts):,}", "", f"{sum(p.macs for p in parts):,}", "")
        ]
        body += table(("part", "params", "share", "MACs", "share"), rows)
    ops = sorted({line.op for line in stack if line.op} | set(_cell_ops(run)), key=list(WORDS).index)
    return Section("architecture", title, body + paragraph("; ".join(f"{op}: {WORDS[op]}" for op in ops) + "."))


def used_kinds(run: Record) -> list[str]:
    """Return the kinds of cells that the network has."""
    layers, reductions = run.space.spec.layers, len(run.space.spec.reductions)
    return [kind for kind, number in zip(CELLS, (layers - reductions, reductions), strict=True) if number]


def lines_of(run: Record, parts: list[Part]) -> list[Line]:
    """Return the rows of the stack, of either family."""
    return chain_lines(run, parts) if run.space.family == "chain" else cell_lines(run, parts)


def chain_lines(run: Record, parts: list[Part]) -> list[Line]:
    """Return the rows of a chain: image, active blocks, blocks that are off, head."""
    space, genotype, spec = run.space, run.genotype, run.space.spec
    depth, lines = spec.depths[genotype[DEPTH_SLOT]], [_image(run)]
    sizes = chain_resolutions(spec, *run.image_shape[:2]) if run.image_shape else ()
    for block, stride in enumerate(spec.strides):
        op, width = space.choices[op_slot(block)][genotype[op_slot(block)]], genotype[width_slot(block)]
        halves = "" if stride == 1 else {"pool": ", 2×2 pool", "stride": ", stride 2"}[spec.downsample]
        size = _size(sizes[block + 1]) if sizes else ""
        if block < depth:
            channels = spec.widths[width]
            small = f"{BRIEF.get(op, WORDS[op])}, {channels} ch{halves}"
            lines.append(Line(f"{op}-{channels}", small, op, parts[block] if parts else None, size))
        else:
            lines.append(Line("off", "block left out" + (", still halves" if stride == 2 else ""), "", None, size))
    if pools_last(spec, genotype):
        size = _size(pooled_size(sizes[-1])) if sizes else ""
        lines.append(Line("max2", "2×2 max-pool behind the blocks", "", None, size))
    return [*lines, _head(run, parts)]


def cell_lines(run: Record, parts: list[Part]) -> list[Line]:
    """Return the rows of a network of cells: image, stem, cells, head."""
    spec = run.space.spec
    sizes = cell_resolutions(spec, *run.image_shape[:2]) if run.image_shape else ()
    stem = f"3×3 convolution, {spec.channels} ch" + (", stride 2" if spec.stem_stride == 2 else "")
    lines = [_image(run), Line("stem", stem, "", parts[0] if parts else None, _size(sizes[0]) if sizes else "")]
    for layer in range(spec.layers):
        kind = CELLS[layer in spec.reductions]
        small = f"{spec.nodes} nodes of {spec.channels} ch" + (", halves" if kind == "reduce" else "")
        part, size = (parts[layer + 1], _size(sizes[layer + 1])) if parts else (None, "")
        lines.append(Line(f"cell {layer}: {kind}", small, "", part, size))
    return [*lines, _head(run, parts)]


def _image(run: Record) -> Line:
    return Line("image", "", "", None, _size(run.image_shape[:2]) if run.image_shape else "")


def _head(run: Record, parts: list[Part]) -> Line:
    return Line("head", f"{run.config.protocol.ways} classes", "", parts[-1] if parts else None, "")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _cell_ops(run: Record) -> list[str]:
    if run.space.family != "cell":
        return []
    names = zip(run.space.names, run.space.choices, run.genotype, strict=True)
    return [choices[value] for name, choices, value in names if ".op_" in name]


@styled
def stack_figure(lines: list[Line]):
    """Draw the rows from top to bottom with bars of their shares of parameters and MACs."""
    figure = new_figure(ROW * len(lines) + 0.45)
    axes = figure.subplots()
    axes.set(xlim=(0, 10), ylim=(len(lines) - 0.35, -0.95))
    axes.axis("off")
    axes.text(7.0, -0.68, "share of", fontsize=8.5)
    axes.text(10.0, -0.68, "number", fontsize=8.5, ha="right", color="0.25")
    axes.text(7.0, -0.36, "params", color=BLUE, fontsize=8.5, weight="bold")
    axes.text(8.5, -0.36, "MACs", color="#8A5E00", fontsize=8.5, weight="bold")
    for y, (bold, small, op, part, size) in enumerate(lines):
        off = bold == "off"
        box = FancyBboxPatch(
            (0.25, y - 0.33), 5.6, 0.62, boxstyle="round,pad=0.02,rounding_size=0.08", linewidth=1, facecolor="white",
            edgecolor="0.35", linestyle="--" if off else "-", mutation_aspect=0.4,
        )  # fmt: skip
        axes.add_patch(box)
        if op:
            colour, hatch = OPS[op]
            axes.add_patch(
                FancyBboxPatch((0.3, y - 0.3), 0.22, 0.56, boxstyle="square,pad=0", facecolor=colour, hatch=hatch,
                               edgecolor="0.35", linewidth=0.5)
            )  # fmt: skip
        centre = y - 0.02 if not small else y - 0.17
        axes.text(0.75, centre, bold, va="center", weight="normal" if off else "bold", color="0.4" if off else "black")
        if small:
            axes.text(0.75, y + 0.13, small, va="center", fontsize=7.5, color="0.25")
        if size:
            axes.text(5.7, centre, size, va="center", ha="right", fontsize=8, color="0.25")
        if y + 1 < len(lines):
            arrow = {"arrowstyle": "-|>", "color": "0.35", "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (3.0, y + 0.66), (3.0, y + 0.31), arrowprops=arrow)
        if part:
            _bars(axes, y, part)
    return figure


def _bars(axes, y: float, part: Part) -> None:
    rows = zip((y - 0.17, y + 0.13), part.shares, (part.params, part.macs), (BLUE, ORANGE))
    for place, share, number, colour in rows:
        axes.barh(place, 1.55 * share, 0.2, left=6.1, color=colour)
        axes.text(7.75, place, f"{share:.1%}", va="center", ha="left", fontsize=8)
        axes.text(10.0, place, short(number), va="center", ha="right", fontsize=8, color="0.25")
