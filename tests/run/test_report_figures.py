"""Tables and figures of the report say the numbers that they were given, each where its name stands."""

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from atnas_jax.job.defaults import default_config
from atnas_jax.report import accuracy, architecture, compare, curves, episodes, ledger, pareto
from atnas_jax.report.choices import op_shares, ops_figure, slots_figure
from atnas_jax.report.evidence import points_figure
from atnas_jax.report.html import picture
from atnas_jax.report.style import BLUE, ORANGE, short
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import from_text, to_text

LEDGER = {
    "compile_s": 62.25, "meta_train_s": 31.5, "search_s": 4.0, "control_s": 3723.0, "meta_test_s": 7.75,
    "adapt_s_per_task": 0.125, "peak_memory_mb": 1536.0,
}  # fmt: skip


def rows_of(html):
    """Return the cells of every row of the tables of a page, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row.replace("<wbr>", "")) for row in rows]


def kept(drawn):
    """Return a `save` that keeps the figures in `drawn` under their names."""

    def save(name, figure, alt, caption):
        drawn[name] = figure
        return picture(b"", alt, caption)

    return save


def bars(axes):
    """Return {label of the y axis: (left edges, widths) of the bars there}."""
    found = {text.get_text(): ([], []) for text in axes.get_yticklabels()}
    for tick, label in zip(axes.get_yticks(), found, strict=True):
        for bar in axes.patches:
            if abs(bar.get_y() + bar.get_height() / 2 - tick) < 1e-6:
                found[label][0].append(bar.get_x())
                found[label][1].append(bar.get_width())
    return found


def points(axes):
    """Return [{label of the y axis: (x, half of the interval)}] of the error bars of a figure."""
    ticks = dict(zip(axes.get_yticks(), (text.get_text() for text in axes.get_yticklabels()), strict=True))
    found = []
    for container in axes.containers:
        line, _, (segments,) = container.lines
        half = [float(np.ptp(segment[:, 0])) / 2 for segment in segments.get_segments()]
        names = [ticks[min(ticks, key=lambda tick, y=y: abs(tick - y))] for y in line.get_ydata()]
        found.append({name: (x, h) for name, x, h in zip(names, line.get_xdata(), half, strict=True)})
    return found


def test_the_ledger_says_where_the_time_went():
    drawn = {}
    body = ledger.section(SimpleNamespace(results={"ledger": LEDGER}), kept(drawn)).body
    assert rows_of(body) == [
        ["", "time", "seconds"],
        ["compiling", "1 min 02 s", "62.2"],
        ["meta-training", "32 s", "31.5"],
        ["search", "4 s", "4.0"],
        ["controls (conv4, random search)", "1 h 02 min", "3723.0"],
        ["meta-test", "8 s", "7.8"],
        ["one novel task: architecture, weights, predictions", "", "0.125"],
        ["", "MB"],
        ["peak memory of the process", "1,536"],
    ]
    axes = drawn["ledger"].axes[0]
    seconds = {label.replace("\n", " "): width for label, (_, (width,)) in bars(axes).items()}
    assert seconds == {words: LEDGER[name] for name, words in ledger.WORDS.items()}
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert dict(zip(ticks, (text.get_text() for text in axes.texts)))["search"] == "4 s"
    assert axes.get_xlim()[1] > max(LEDGER.values())


def _results(first, second):
    def rows(values):
        return {name: {"accuracy": a, "ci95": c, "params": 1500, "macs": 9} for name, (a, c) in values.items()}

    return {
        "meta_test": rows(first),
        "meta_test_other": {"normalisation": "transductive", "rows": rows(second)},
        "protocol": {"normalisation": "inductive", "ways": 4, "shots": 1, "queries": 2, "episodes": 6,
                     "inner_steps": 1},
        "data": {"source": "here/tiny.npz", "class_counts": {"meta_test": 6}, "fingerprint": "f"},
        "seed": 0,
    }  # fmt: skip


ROWS = {"adapted": (0.75, 0.02), "best": (0.5, 0.03), "conv4": (0.25, 0.04)}
OTHER = {"adapted": (0.8, 0.05), "best": (0.6, 0.06)}


def test_each_row_of_the_results_has_its_own_point_and_interval():
    axes = accuracy.results_figure(_results(ROWS, OTHER)).axes[0]
    for found, rows in zip(points(axes), (ROWS, OTHER), strict=True):
        assert found == {name: (pytest.approx(100 * a), pytest.approx(100 * c)) for name, (a, c) in rows.items()}
    names = {text.get_text(): tick for tick, text in zip(axes.get_yticks(), axes.get_yticklabels())}
    assert names["adapted"] > names["best"] > names["conv4"]  # as in the table, from above
    chance = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert chance == [25.0]


def test_training_is_drawn_in_nats_and_percent_and_the_control_from_its_own_start():
    rows = [
        {"phase": phase, "step": start + step, "loss": 1.0 / step, "accuracy": step / 10}
        for phase, start in (("meta_train", 0), ("control", 8))
        for step in (2, 4)
    ]
    found = curves.training_curves(
        SimpleNamespace(metrics=rows, config=SimpleNamespace(train=SimpleNamespace(steps=8)))
    )
    for axes, values in zip(curves.training_figure(found, [3]).axes, ((0.5, 0.25), (20, 40)), strict=True):
        held, *drawn = axes.lines
        assert list(held.get_xdata()) == [3, 3] and len(drawn) == 2
        for line in drawn:
            np.testing.assert_allclose((line.get_xdata(), line.get_ydata()), ((2, 4), values))


def test_the_search_is_said_to_lead_where_it_leads():
    run = {"best": np.array([0.1, 0.6]), "random_best": np.array([0.9, 0.55])}
    assert "5.0 points above the best" in curves._verdict(run)
    assert "30.0 points below the best" in curves._verdict(run | {"random_best": np.array([0.9, 0.9])})
    assert curves._verdict(run | {"random_best": np.array([0.9, np.nan])}) == ""


def test_each_cost_has_its_own_front():
    """The genotype with most parameters is the one with fewest multiply-adds."""
    row = {"fitness": [0.5, 0.7, 0.6, None], "params": [10, 20, 40, 1], "macs": [30, 20, 10, 1]}
    found = pareto.points_of(row)
    for cost, front in (("params", [(10, 50), (20, 70)]), ("macs", [(10, 60), (20, 70)])):
        dots, staircase = pareto.pareto_figure({"evaluated": found}, cost, "fitness, %").axes[0].lines
        np.testing.assert_allclose(sorted(zip(*dots.get_data())), sorted(zip(row[cost], (50, 70, 60))))
        np.testing.assert_allclose(list(zip(*staircase.get_data())), front)
        assert staircase.get_drawstyle() == "steps-post"


def test_bars_of_choices_stand_one_after_the_other():
    counts = {"op": Counter({"conv3": 3, "max3": 1}), "width": Counter({"8": 4})}
    found = bars(slots_figure(counts, [["conv3", "sep3", "max3"], ["4", "8"]]).axes[0])
    assert found == {"op": ([0, 75], [75, 25]), "width": ([0], [100])}
    space = chain_space(ChainSpec((("conv3", "sep3", "identity"),) * 3, (4, 8), (1, 2, 3), (2, 2, 1), "pool"))
    share = op_shares(space, [from_text(space, "chain:d2/conv3-4/sep3-4/sep3-4")])
    assert [bar.get_y() for bar in ops_figure({1: share}).axes[0].patches] == [0, 50, 100]


def test_a_last_pool_has_a_row_of_its_own():
    space = chain_space(ChainSpec((("conv3",),) * 2, (4,), (1, 2), (2, 1), "pool", last_pool=True))
    rows = {}
    for end in ("none", "max2"):
        run = SimpleNamespace(
            space=space, genotype=from_text(space, f"chain:d1/conv3-4/conv3-4/{end}"), image_shape=(10, 8, 1),
            config=default_config(),
        )  # fmt: skip
        rows[end] = [(line.bold, line.size) for line in architecture.chain_lines(run, [])]
    assert rows["none"] == [("image", "10×8"), ("conv3-4", "5×4"), ("off", "5×4"), ("head", "")]
    assert rows["max2"] == [*rows["none"][:3], ("max2", "2×2"), ("head", "")]


def test_each_episode_is_told_with_its_own_accuracy_and_mistakes():
    space = chain_space(ChainSpec((("conv3", "sep3", "identity"),) * 3, (4, 8), (1, 2, 3), (2, 2, 1), "pool"))
    texts = ("chain:d2/conv3-4/sep3-4/sep3-4", "chain:d3/sep3-8/identity-4/conv3-4")
    shown = {
        "row": "adapted", "genotypes": np.stack([from_text(space, text) for text in texts]),
        "support": np.zeros((2, 2, 1, 4, 4, 1), np.uint8), "query": np.zeros((2, 2, 3, 4, 4, 1), np.uint8),
        "predicted": np.array([[[0, 0, 0], [1, 1, 0]], [[1, 1, 0], [0, 1, 1]]]), "accuracy": np.array([0.875, 0.5]),
    }  # fmt: skip
    told = []
    episodes.section(SimpleNamespace(shown=shown, space=space), lambda *given: told.append(given[2:]) or "")
    assert [alt.split(", ")[1] for alt, _ in told] == [
        "1 of 6 queries shown are wrong",
        "3 of 6 queries shown are wrong",
    ]
    assert [caption for _, caption in told] == [
        f"Episode {n}: accuracy {share} of all queries, by {to_text(space, from_text(space, text))}"
        for n, (share, text) in enumerate(zip(("87.5%", "50.0%"), texts, strict=True))
    ]


def test_curves_of_evidence_have_their_intervals():
    rows = [{"steps": n, "accuracy": 0.1 * n, "ci95": 0.02} for n in (1, 5)]
    (container,) = points_figure({"best": rows}, "steps", "inner steps").axes[0].containers
    line, _, (segments,) = container.lines
    np.testing.assert_allclose(np.asarray(line.get_data(), float), ((1, 5), (10, 50)))
    np.testing.assert_allclose([np.ptp(segment[:, 1]) for segment in segments.get_segments()], 4)


def test_the_stack_has_a_bar_as_long_as_each_share():
    parts = [architecture.Part(f"block{n}", 10, 20, shares) for n, shares in enumerate(((0.75, 0.4), (0.25, 0.6)))]
    lines = [architecture.Line(part.name, "", "conv3", part, "5×5") for part in parts]
    drawn = architecture.stack_figure(lines).axes[0]
    found = [bar for bar in drawn.patches if bar.get_x() == 6.1]
    assert [bar.get_width() / 1.55 for bar in found] == pytest.approx([0.75, 0.4, 0.25, 0.6])
    assert [to_hex(bar.get_facecolor()).upper() for bar in found] == [BLUE, ORANGE] * 2
    words = {text.get_text(): text.get_color() for text in drawn.texts}
    assert words["params"] == BLUE and {"75.0%", "40.0%", "25.0%", "60.0%"} <= set(words)


def test_counts_are_short():
    assert [short(n) for n in (0, 950, 1500, 12345, 4_560_000, 2e9)] == ["0", "950", "1.5k", "12.3k", "4.56M", "2G"]


def test_each_run_has_its_own_points():
    runs = [
        SimpleNamespace(name=f"run{n}", results={"meta_test": {"best": {"accuracy": n / 4, "ci95": n / 100}}})
        for n in (1, 2)
    ]
    assert points(compare.results_figure(runs).axes[0]) == [
        {"best": (25.0, pytest.approx(1))},
        {"best": (50.0, pytest.approx(2))},
    ]


def test_each_run_has_its_own_column(finished, tmp_path):
    """Two runs of one name: the second has other accuracies, seconds and settings, and no transductive rows."""
    runs = []
    for number in (1, 2):
        folder = tmp_path / str(number) / "run"
        folder.mkdir(parents=True)
        config, results = json.loads(json.dumps(finished.config.to_dict())), dict(finished.results)
        results["ledger"] = {name: number * value for name, value in LEDGER.items()}
        results["meta_test"] = {name: row | {"accuracy": number / 4} for name, row in results["meta_test"].items()}
        results["params"], config["train"]["outer_lr"], results["config"] = 1000 * number, number / 8, config
        if number == 2:
            del results["meta_test"]["conv4"], results["meta_test_other"]
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "results.json").write_text(json.dumps(results))
        runs.append(str(folder))
    rows = rows_of(Path(compare.write_comparison(runs, str(tmp_path / "both.html"))).read_text())
    for row in (
        ["run (1)", runs[0]], ["run (2)", runs[1]], ["", "run (1)", "run (2)"], ["train.outer_lr", "0.125", "0.25"],
        ["search", "4", "8"], ["controls (conv4, random search)", "3,723", "7,446"],
        ["peak memory, MB", "1,536", "3,072"],
    ):  # fmt: skip
        assert row in rows
    accuracies = {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in rows if " ± " in "".join(row)}
    of_mode = [row for row in rows if row[0] in ("best", "conv4")]
    assert [[cell.split(" ")[0] for cell in row] for row in of_mode[:2]] == [["best", "25.00", "50.00"],
                                                                            ["conv4", "25.00", "-"]]  # fmt: skip
    assert accuracies["best"][1] == "-"  # the last table: of the first run alone
    assert [row[2] for row in rows if row[0] in ("run (1)", "run (2)") and len(row) == 4] == ["1k", "2k"]
