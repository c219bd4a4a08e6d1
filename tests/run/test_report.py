"""The report: every part, nothing from outside, drawings that agree with the genotype, parts that may be missing."""

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from atnas_jax.report import cells
from atnas_jax.report.architecture import cell_lines, chain_lines, stack_figure
from atnas_jax.report.cells import cell_figure, edges_of
from atnas_jax.report.choices import chosen_names, collapse, op_shares, ops_figure
from atnas_jax.report.compare import differences, write_comparison
from atnas_jax.report.cost import edge_shares, parts_of
from atnas_jax.report.curves import search_curves
from atnas_jax.report.episodes import episode_figure
from atnas_jax.report.html import picture
from atnas_jax.report.page import report_of, write_report
from atnas_jax.report.pareto import front_of
from atnas_jax.report.read import read_run
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import from_text, to_text

SECTIONS = [
    "results", "training", "search", "architecture", "ops", "pareto", "steps", "episodes", "choices", "ledger",
    "settings",
]  # fmt: skip
VOID = {"meta", "img", "wbr", "br", "hr"}
CHAIN = chain_space(ChainSpec((("conv3", "sep3", "identity"),) * 3, (4, 8), (1, 2, 3), (2, 2, 1), "pool"))
CELL = cell_space(CellSpec(("conv3", "sep3", "max3", "none"), 3, 3, (1,), 4))
OPS = CELL.spec.ops
CELL_TEXT = "cell:normal/0+1-conv3-sep3/0+2-max3-none/1+3-sep3-conv3/reduce/0+1-none-max3/1+2-sep3-sep3/2+3-conv3-max3"


class Page(HTMLParser):
    """What a page is made of; raises where a tag is not closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.words, self.broken = [], set(), [], [], [], False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.broken = tag == "wbr"
        self.links += [(name, value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.words.pop() if self.broken else "") + data)
        self.broken = False

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def texts(figure):
    """Return everything that is written in a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def sketched(workdir):
    """Return the page of a workdir with its figures drawn but not rendered, and their names."""
    names = []

    def save(name, figure, alt, caption):
        names.append(name)
        return picture(b"", alt, caption)

    return Page(report_of(read_run(str(workdir)), save)), names


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The workdir of the finished run with its report."""
    workdir = shutil.copytree(finished.workdir, tmp_path_factory.mktemp("report") / "run")
    write_report(str(workdir))
    return workdir


@pytest.fixture(scope="module")
def html(reported):
    return (reported / "report.html").read_text()


def test_the_page_is_well_formed_has_every_section_and_needs_nothing_else(html):
    page = Page(html)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert html.count('class="absent"') == 6  # five that meta_test adds when asked; the command, as a test is none
    assert {name for name, _ in page.links} == {"src", "href"}
    for name, value in page.links:
        assert value.startswith("data:image/svg+xml;base64," if name == "src" else "#"), value[:40]
        assert name == "src" or value[1:] in page.ids
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    outside = html.replace("data:image/svg+xml", "")
    assert "http" not in outside and "url(" not in outside and "@import" not in outside and "file:" not in outside


def test_the_numbers_of_the_page_are_those_of_the_run(html, finished):
    text, results = Page(html).text, finished.results
    for rows in (results["meta_test"], results["meta_test_other"]["rows"]):
        for row in rows.values():
            assert f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}" in text
    assert results["genotype"] in text
    assert f"{results['params']:,}" in text and f"{results['macs']:,}" in text
    assert "3-way 1-shot, 2 queries a class, 6 episodes" in text
    assert "'anil'" in text and results["data"]["fingerprint"] in text  # a changed setting; the data


def test_every_figure_is_a_png_and_an_svg_too(html, reported):
    names = sorted(path.stem for path in (reported / "figures").glob("*.svg") if "compare" not in path.stem)
    assert names == sorted(p.stem for p in (reported / "figures").glob("*.png") if "compare" not in p.stem)
    assert len(names) == html.count("<img ") >= 11
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in (reported / "figures").glob("*.png"))


def _with(run, space, text, image_shape=(12, 12, 1)):
    return run._replace(space=space, genotype=from_text(space, text), image_shape=image_shape)


def test_a_chain_is_drawn_as_its_genotype_says(reported):
    run = _with(read_run(str(reported)), CHAIN, "chain:d2/conv3-8/identity-4/sep3-8")
    parts = parts_of(run)
    words = texts(stack_figure(chain_lines(run, parts)))
    assert [word for word in words if word in ("image", "head", "off") or "-" in word] == [
        "image", "conv3-8", "identity-4", "off", "head"
    ]  # fmt: skip
    assert "3×3 convolution, 8 ch, 2×2 pool" in words and "identity, 4 ch, 2×2 pool" in words
    assert [word for word in words if "×" in word and len(word) < 7] == ["12×12", "6×6", "3×3", "3×3"]
    assert [sum(part.shares[n] for part in parts) for n in (0, 1)] == pytest.approx([1, 1])
    # By hand: conv3 1->8 has 72 weights, 2 * 8 of the norm (and what it learns besides); 144 positions.
    assert parts[0].macs == 72 * 144 and parts[0].params >= 88
    assert f"{parts[0].shares[1]:.1%}" in words


def _assert_arcs_join(edges, labels):
    """Each label stands on the arc of its edge: of the first of a node on the left, of the second on the right."""
    for number, ((start, end, _), label) in enumerate(zip(edges, labels, strict=True)):
        x, y = label.get_position()
        assert (x < 0) == (number % 2 == 0) and start < y < end
        curve = cells.on_curve(cells._curve(start, end, (-1, 1)[number % 2]), np.linspace(0, 1, 1001))
        assert np.abs(curve - (x, y)).sum(1).min() < 0.01


def test_a_cell_is_drawn_as_its_genotype_says(reported):
    run = _with(read_run(str(reported)), CELL, CELL_TEXT)
    assert to_text(CELL, run.genotype) == CELL_TEXT
    shares = edge_shares(run, parts := parts_of(run))
    body = CELL_TEXT.removeprefix("cell:normal/").split("/reduce/")
    for kind, nodes in zip(("normal", "reduce"), body, strict=True):
        wanted = []
        for number, node in enumerate(nodes.split("/")):
            inputs, *ops = node.split("-")
            wanted += [(int(i), number + 2, op) for i, op in zip(inputs.split("+"), ops, strict=True)]
        assert edges_of(CELL, run.genotype, kind) == wanted
        words = texts(drawn := cell_figure(CELL, run.genotype, kind, shares[kind]))
        labels = [word.split("\n")[0] for word in words if word.split("\n")[0] in OPS]
        assert all((" | " in word) == word.startswith(("conv3", "sep3")) for word in words)
        assert labels == [op for _, _, op in wanted]
        _assert_arcs_join(wanted, [text for text in drawn.axes[0].texts if text.get_text().split("\n")[0] in OPS])
        planted = texts(cell_figure(CELL, run.genotype, kind, {"conv3": (0.25, 0.5), "sep3": (0.0, 0.125)}))
        assert {"conv3\n25.0% | 50.0%", "sep3\n0.0% | 12.5%"} <= set(planted)
        assert [word for word in words if word.startswith(("cell", "node"))] == [
            "cell k−2", "cell k−1", "node 0", "node 1", "node 2"
        ]  # fmt: skip
    # Two normal cells of 4 channels: conv3 on an edge of both has 2 * 9 * 4 * 4 weights.
    assert shares["normal"]["conv3"][0] == pytest.approx(2 * 144 / sum(part.params for part in parts))
    assert shares["reduce"]["conv3"][0] == pytest.approx(shares["normal"]["conv3"][0] / 2)
    assert [line.size for line in cell_lines(run, parts)] == ["12×12", "12×12", "12×12", "6×6", "6×6", ""]
    rows = [word for word in texts(stack_figure(cell_lines(run, parts))) if word.startswith("cell ")]
    assert rows == ["cell 0: normal", "cell 1: reduce", "cell 2: normal"]


def test_ops_are_counted_where_they_are_active_and_a_collapse_is_told():
    rows = [from_text(CHAIN, text) for text in ("chain:d1/conv3-4/sep3-4/sep3-4", "chain:d3/sep3-8/identity-4/conv3-4")]
    assert op_shares(CHAIN, rows) == {"conv3": 0.5, "sep3": 0.25, "identity": 0.25}
    assert chosen_names(CHAIN, rows)[3] == ["off", "identity"]
    assert collapse(CHAIN, rows) == []
    same = [from_text(CHAIN, "chain:d3/identity-4/identity-4/conv3-4")] * 4
    assert [sentence.split(" ")[0] for sentence in collapse(CHAIN, same)] == ["67%", "only"]
    uniform = [from_text(CHAIN, f"chain:d2/conv3-{a}/conv3-{b}/sep3-4") for a in (4, 8) for b in (4, 8)]
    assert collapse(CHAIN, uniform) == ["100% of the ops are conv3, of 3 that the space has."]
    heights = [bar.get_height() for bar in ops_figure({1: op_shares(CHAIN, rows)}).axes[0].patches]
    assert heights == [50, 25, 25]


def test_the_front_is_what_no_point_beats():
    accuracy, cost = np.array([50.0, 60, 60, 70, 40, 60]), np.array([10, 20, 30, 30, 10, 20])
    assert [(cost[n], accuracy[n]) for n in front_of(accuracy, cost)] == [(10, 50), (20, 60), (30, 70)]


def test_the_curve_of_the_search_has_quartiles_and_random_search(reported):
    run = read_run(str(reported))
    curves = search_curves(run)
    for number, row in enumerate(run.generations):
        assert (curves["low"][number], curves["median"][number], curves["high"][number]) == pytest.approx(
            np.percentile(row["fitness"], (25, 50, 75))
        )
        assert curves["best"][number] == pytest.approx(max(row["fitness"]))
        assert curves["random_best"][number] == pytest.approx(max(row["random"]["fitness"]))
    assert set(search_curves(run._replace(generations=[]))) == {"generation", "best"}


def test_mistakes_are_marked_with_the_class_predicted():
    images = np.zeros((3, 2, 4, 4, 1), np.uint8)
    figure = episode_figure(images[:, :1], images, np.array([[0, 2], [1, 1], [0, 2]]))
    marks = [text.get_text() for text in figure.axes[0].texts]
    frames = [(round(p.get_x() - 0.06, 2), round(p.get_y() - 0.06, 2)) for p in figure.axes[0].patches]
    assert marks == ["2", "0"]
    assert frames == [(2.35, 0), (1.35, 2)]  # row 0, second query; row 2, first query


def test_a_run_without_its_files_has_a_page_that_says_how_to_get_them(reported, tmp_path):
    shutil.copy(reported / "config.json", tmp_path)
    page, _ = sketched(tmp_path)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert page.text.count("Not here: ") == len(SECTIONS) + 1  # one line in every section, two of accuracy against cost
    assert "This run has not ended" in page.text
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_report(str(tmp_path / "figures"))


@pytest.mark.parametrize("name", ["meta_test.npz", "generations.jsonl", "meta_network.npz", "metrics.jsonl"])
def test_a_file_that_is_missing_or_torn_takes_its_own_parts_only(reported, tmp_path, name):
    for path in reported.glob("*.*"):
        if path.is_file() and path.name != name:
            shutil.copy(path, tmp_path)
    if name.endswith("npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
    page, _ = sketched(tmp_path)
    # Of meta_test.npz the curve of adaptations goes with its part.
    lost = {"meta_test.npz": 2 - 1, "generations.jsonl": 4, "meta_network.npz": 1, "metrics.jsonl": 1}[name]
    assert page.text.count("Not here: ") == 6 + lost


def test_what_the_meta_test_adds_when_asked(reported, tmp_path):
    for path in reported.glob("*.json*"):
        shutil.copy(path, tmp_path)
    results, score = json.loads((tmp_path / "results.json").read_text()), {"accuracy": 0.5, "ci95": 0.1, "episodes": 3}
    curve = [{"steps": n, "generation": n} | score for n in (0, 2)]
    point = {"genotype": "x", "params": 10, "macs": 20, "params_front": True, "macs_front": False} | score
    results["evidence"] = {
        "paired": {"inductive": [{"row": "adapted", "minus": "best", "difference": -0.015, "ci95": 0.02}]},
        "permutation": {"same_genotype": 0.25},
        "inner_steps": {"inductive": {"best": curve, "conv4": curve}},
        "search_generations": {"inductive": curve},
        "front": {"points": [{"group": "population"} | point, {"group": "random"} | point]},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    page, drawn = sketched(tmp_path)
    assert "adapted − best -1.50 ± 2.00" in page.text and "in 25.0% of the episodes" in page.text
    assert page.text.count("Not here: ") == 1 + 3  # the command; without meta_test.npz and meta_network.npz
    assert {"inner_steps", "search_generations", "front_params", "front_macs"} <= set(drawn)


def test_what_comes_from_outside_is_text(reported, tmp_path):
    evil = "<script>alert('x')</script> & \"<b>"
    workdir = shutil.copytree(reported, tmp_path / "<i>run")
    results = json.loads((workdir / "results.json").read_text())
    results["data"]["source"] = results["data"]["split"] = results["config"]["data"]["source"] = evil
    results["meta_test"]["<u>row"] = results["meta_test"]["best"]
    (workdir / "command.txt").write_text(evil)
    (workdir / "results.json").write_text(json.dumps(results))
    page, _ = sketched(workdir)
    assert not page.tags & {"script", "i", "u"} and "<script>" in page.text
    assert page.text.count("alert('x')") >= 4  # protocol twice, command, settings, data


def test_runs_side_by_side(reported, short, html):
    page = Page(Path(write_comparison([str(reported), short.workdir], str(reported / "both.html"))).read_text())
    assert page.ids == ["results", "curves", "architectures", "ledger", "settings"]
    assert "is not on the episodes" not in page.text
    assert short.results["genotype"] in page.text and "meta_test.other_normalisation" in page.text
    assert {"compare_results.png", "compare_training.svg", "compare_search.svg"} <= set(
        os.listdir(reported / "figures")
    )
    one, other = read_run(str(reported)), read_run(short.workdir)._replace(name="other")
    config = other.config.copy_and_resolve_references()
    config.protocol.seed = 5
    protocol = other.results["protocol"] | {"shots": 5}
    odd = other._replace(config=config, results=other.results | {"protocol": protocol})
    assert differences([one, other]) == []
    assert differences([one, odd]) == ["other is not on the episodes of run: shots, episodes of seed differ."]
    config = one.config.copy_and_resolve_references()
    config.learner.tolerance = 0.1
    settles = other._replace(config=config)
    assert differences([one, settles]) == ["other adapts by other inner steps than run, or ends them otherwise."]


def test_the_command_writes_and_refuses(command, reported, short, tmp_path):
    done = command("report", f"--workdir={reported},{short.workdir}", f"--out={tmp_path / 'both.html'}")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"report   {tmp_path / 'both.html'}\n")
    Page((tmp_path / "both.html").read_text())
    done = command("report", "--workdir=/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: /nowhere holds no run") and len(done.stderr.splitlines()) == 1
