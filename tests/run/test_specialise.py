"""A whole data set: parts that share no image, growth that keeps the function, and test images that move nothing."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.export.write import export_trained
from atnas_jax.job.costs import make_cost
from atnas_jax.many_shot import specialise
from atnas_jax.many_shot.many_shot import Bench, Trained
from atnas_jax.many_shot.seeds import specialise_seeds
from atnas_jax.many_shot.specialise import METHODS, reached, read_task, specialise_task
from atnas_jax.many_shot.specialise_report import sentence, specialise_table
from atnas_jax.many_shot.supervised import split_rows
from atnas_jax.nets import grow as growing
from atnas_jax.nets.grow import grow, grown_space
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.novel.meta_network import load_meta_network
from atnas_jax.report.specialised import write_specialised
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import from_text, parse, to_text

ROWS = ("adapted", "scratch", "random")
QUICK = {
    "specialise.steps": 30,
    "specialise.every": 15,
    "specialise.batch": 8,
    "specialise.rate": 0.01,
    "specialise.generations": 2,
    "specialise.population": 4,
    "specialise.probe_steps": 2,
    "specialise.reference": 6,
    "specialise.random_architectures": 1,
    "specialise.valid": 0.3,
}


def test_parts_share_no_image_and_have_all_classes():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 2, 2, 1)).astype(np.uint8), np.repeat(np.arange(3), 20)
    images[5] = images[3] = images[17]
    parts = split_rows(images, labels, (0.2, 0.2), 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert sum(bool({3, 5, 17} & set(part.tolist())) for part in parts) == 1
    assert all(np.abs(np.bincount(labels[part], minlength=3) - share * 20).max() <= 3 for part, share in
               zip(parts, (0.6, 0.2, 0.2), strict=True))  # fmt: skip
    assert not np.array_equal(parts[2], split_rows(images, labels, (0.2, 0.2), 1)[2])
    other = images.copy()
    other[parts[2]] = rng.integers(0, 256, (len(parts[2]), 2, 2, 1))
    if not {3, 5, 17} & set(parts[2].tolist()):
        assert np.array_equal(parts[2], split_rows(other, labels, (0.2, 0.2), 0)[2])
    with pytest.raises(ValueError, match="class 1 has 2 distinct images; train, valid and test need 3 or more"):
        split_rows(images[:2], np.array([1, 1]), (0.2, 0.2), 0)


CHAIN = chain_space(
    ChainSpec((("conv3", "sep3"), ("max3", "dil3"), ("conv3", "avg3")), (3, 4), (2, 3), (2, 1, 2), "pool")
)
POOLED = chain_space(ChainSpec((("conv3", "sep3"),), (3, 4), (1,), (2,), "pool", last_pool=True))
CELL = cell_space(CellSpec(("conv3", "sep3", "identity"), 1, 2, (1,), 3))


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (CHAIN, "chain:d2/sep3-4/max3-3/conv3-4"),
        (POOLED, "chain:d1/sep3-4/max2"),
        (CELL, "cell:normal/0+1-conv3-sep3/reduce/0+1-sep3-identity"),
    ],
)
def test_a_wider_network_computes_the_same(space, text, monkeypatch):
    monkeypatch.setattr(growing, "NOISE", 0.0)
    genotype = from_text(space, text)
    small = make_subnet(space, genotype, (8, 8, 1))
    wide_space, wide_genotype = grown_space(space, genotype, 2, 0)
    wide = make_subnet(wide_space, wide_genotype, (8, 8, 1))
    body = jax.tree.map(lambda leaf: leaf + 0.1, small.model.init(jax.random.key(0)))
    grown = grow(jax.random.key(1), body, wide.model.init(jax.random.key(2)), 2)
    x = jax.random.normal(jax.random.key(3), (4, 8, 8, 1))
    assert jnp.allclose(wide.model.apply(grown, x), small.model.apply(body, x).repeat(2, -1), atol=1e-4)


def test_a_deeper_network_keeps_what_it_had():
    genotype = from_text(CHAIN, "chain:d2/sep3-4/max3-3/conv3-4")
    space, grown = grown_space(CHAIN, genotype, 1, 2)
    body = make_subnet(CHAIN, genotype, (8, 8, 1)).model.init(jax.random.key(0))
    deep = make_subnet(space, grown, (8, 8, 1))
    start = deep.model.init(jax.random.key(1))
    made = grow(jax.random.key(2), body, start, 1)
    assert sorted(made) == ["block0", "block1", "block2", "block3"]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, made, {**start, **body}))
    assert deep.model.apply(made, jnp.ones((2, 8, 8, 1))).shape == (2, 2 * 2 * 3)


def test_when_an_accuracy_was_reached():
    curve = [[1.0, 0.5], [2.0, 0.89], [3.0, 0.9], [4.0, 0.95]]
    scratch = {"valid": 0.9, "search_s": 50.0, "curve": [[50.0, 0.7], [60.0, 0.9]]}
    found = reached({"adapted": {"curve": curve}, "scratch": scratch, "random": {"curve": curve[:2]}})
    assert found["accuracy"] == 0.9
    assert found["rows"]["adapted"] == {"seconds": 3.0, "share": 0.06}
    assert found["rows"]["scratch"] == {"seconds": 60.0, "share": 1.2}
    assert found["rows"]["random"] == {"seconds": None, "share": None}
    records = [{"reached": found, "rows": {"scratch": scratch}}] * 2
    assert "in 2 of 2 seeds it reached" in sentence(records, "adapted")
    assert "after 3.0 s of search and training: 6.0% to 6.0% of the 50.0 s" in sentence(records, "adapted")
    assert "never reached" in sentence(records, "random")


@pytest.fixture(scope="module")
def data(tiny_data, tmp_path_factory):
    """Three classes of meta_test, all their images; returns a function of what to do to some rows."""
    folder = tmp_path_factory.mktemp("whole")
    with np.load(tiny_data) as file:
        images, labels = file["images"][140:170], file["labels"][140:170] - 14

    def make(name, change=lambda images, labels: images):
        np.savez(folder / f"{name}.npz", images=change(images.copy(), labels), labels=labels)
        return str(folder / f"{name}.npz")

    return make


@pytest.fixture(scope="module")
def found(finished, data):
    """The tiny data, specialised to."""
    return specialise_task(read_task(finished.workdir, data("whole"), rows=ROWS, changes=QUICK), 0)


def test_the_network_learns_and_is_compared(found, tmp_path):
    rows = found.record["rows"]
    assert tuple(rows) == ROWS and found.record["images"] == {"train": 15, "valid": 9, "test": 6}
    assert rows["adapted"]["valid"] > 0.6
    for name, row in rows.items():
        seconds, accuracies = zip(*row["curve"], strict=True)
        assert len(seconds) == row["evaluations"] + 2 and list(seconds) == sorted(seconds)
        assert [at for at, _ in row["test_curve"]] == list(seconds)[-2:] and row["test_curve"][-1][1] == row["test"]
        assert accuracies[-1] == row["valid"] and (row["search_s"] > 0) == (name != "random")
    for name in ("adapted", "scratch"):  # two generations of four each, elites are not evaluated again
        assert 4 <= rows[name]["evaluations"] <= 8
    records = [found.record, found.record | {"seed": 1}]
    page = Path(write_specialised(str(tmp_path), records)).read_text()
    assert (tmp_path / "specialise.txt").read_text() == specialise_table(records) + "\n"
    assert all((tmp_path / "figures" / f"specialise_seed{seed}.png").stat().st_size > 10_000 for seed in (0, 1))
    told = [sentence(records, name) for name in ROWS]
    assert all(words[1:] in page for words in told) and f"{100 * rows['random']['test']:.2f}" in page
    exported = export_trained(found, str(tmp_path / "network"), formats=("npz",))
    assert exported["output"] == "logits" and exported["classes"] == ["0", "1", "2"]


def test_a_network_of_transductive_statistics_is_exported_with_those_of_the_reference(found, tmp_path):
    config = found.network.config.copy_and_resolve_references()
    config.net.normalisation = "batch_transductive"
    other = found._replace(network=found.network._replace(config=config))
    for name, one in (("support", found), ("transductive", other)):
        export_trained(one, str(tmp_path / name), formats=("npz",))
    files = list((tmp_path / "support").glob("*.npz"))
    assert files
    for file in files:
        with np.load(file) as expected, np.load(tmp_path / "transductive" / file.name) as got:
            assert expected.files == got.files
            assert all(np.array_equal(expected[name], got[name]) for name in expected.files)


def test_test_images_choose_nothing(found, finished, data):
    def spoil(images, labels):
        rows = split_rows(images[..., None], labels, (0.3, 0.2), 0)[2]
        images[rows] = np.random.default_rng(1).integers(0, 256, images[rows].shape)
        return images

    again = specialise_task(read_task(finished.workdir, data("spoilt", spoil), rows=("adapted",), changes=QUICK), 0)
    before, after = found.record["rows"]["adapted"], again.record["rows"]["adapted"]
    assert after["genotype"] == before["genotype"]
    assert [accuracy for _, accuracy in after["curve"]] == [accuracy for _, accuracy in before["curve"]]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again.trained.params, found.trained.params))


def test_seeds_that_are_done_are_not_run_again(found, finished, data, tmp_path):
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    task = read_task(finished.workdir, data("whole"), rows=ROWS, changes=QUICK)
    write_specialised(here, [found.record])
    write_specialised(there, [found.record | {"seed": 2}])
    ran = []

    def done(records, one, first):
        ran.append((one.record["seed"], [record["seed"] for record in records], first))

    records = specialise_seeds(task, here, (0, 2), done, known=[there])
    assert [record["seed"] for record in records] == [0, 2] and not ran
    assert records[0] == json.loads(json.dumps(found.record))
    small = read_task(finished.workdir, data("whole"), rows=("adapted",), changes=QUICK)
    one = {name: value for name, value in found.record.items() if name != "reached"}
    alone = str(tmp_path / "alone")
    write_specialised(alone, [one | {"rows": {"adapted": one["rows"]["adapted"]}, "seed": 2}])
    records = specialise_seeds(small, alone, (0, 2), done)
    assert ran == [(0, [0, 2], True)]  # run, put in order; no other network is kept here
    again, before = records[0]["rows"]["adapted"], found.record["rows"]["adapted"]
    assert again["genotype"] == before["genotype"] and again["test"] == before["test"]


def test_random_architectures_keep_the_limits_and_are_told_in_means(finished, monkeypatch):
    network = load_meta_network(finished.workdir)
    cost = make_cost(network.config, network.space, network.image_shape, 3)

    def train(bench, start, genotype, searched):
        params, macs = map(int, cost(jnp.asarray(genotype)))
        row = dict.fromkeys(("train_s", "valid", "test", "compile_s", "search_s"), 0.5) | {
            "params": params,
            "macs": macs,
        }
        row |= {"genotype": to_text(network.space, genotype), "curve": [[0.0, 0.5]], "test_curve": [[0.0, 0.5]]}
        return Trained(network.space, genotype, {}, row)

    def found(limit):
        network.config.search.max_params = limit
        network.config.specialise.random_architectures = 6
        row = METHODS["random_from_meta"](Bench(network, None, 3, 0, (1, 0), None, None, {}, lambda _: None)).row
        costs = [int(cost(jnp.asarray(parse(network.space, text)))[0]) for text in row["genotypes"]]
        assert row["params"] == round(np.mean(costs))
        return costs

    monkeypatch.setattr(specialise, "train", train)
    monkeypatch.setattr(specialise, "meta_start", lambda _: None)
    free = found(0)
    limit = sorted(free)[2]
    assert max(free) > limit >= max(found(limit))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"changes": QUICK | {"specialise.steps": 31}}, "specialise.steps is 30 and here 31"),
        ({"rows": ("adapted", "scratch")}, "rows is .* and here"),
        ({"width": 2}, "width is 1 and here 2"),
    ],
)
def test_seeds_of_another_comparison_are_refused(found, finished, data, tmp_path, change, words):
    write_specialised(str(tmp_path), [found.record])
    task = read_task(finished.workdir, data("whole"), **{"rows": ROWS, "changes": QUICK} | change)
    with pytest.raises(ValueError, match=words):
        specialise_seeds(task, str(tmp_path), (0,), lambda *_: None)


def test_seeds_of_other_data_are_refused(found, finished, data, tmp_path):
    write_specialised(str(tmp_path), [found.record])
    task = read_task(finished.workdir, data("inverse", lambda images, _: 255 - images), rows=ROWS, changes=QUICK)
    with pytest.raises(ValueError, match=r"fingerprint is .* give another --out"):
        specialise_seeds(task, str(tmp_path), (0,), lambda *_: None)


def test_groups_of_channels_are_not_widened(finished):
    with pytest.raises(ValueError, match="width 2 would move channels between the groups"):
        read_task(finished.workdir, "nowhere.npz", width=2, changes={"net.normalisation": "group"})


def test_rows_that_are_not_known_are_refused(finished):
    with pytest.raises(ValueError, match="rows: adapted is missing"):
        read_task(finished.workdir, "nowhere.npz", rows=("scratch",))
    with pytest.raises(ValueError, match="rows: best; give adapted and some of scratch"):
        read_task(finished.workdir, "nowhere.npz", rows=("adapted", "best"))
