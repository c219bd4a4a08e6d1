"""A novel task: unequal classes, any number of ways, files in and files out."""

import csv
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import atnas_jax
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.novel import novel
from atnas_jax.novel.adapt import adapt, make_adapter
from atnas_jax.novel.adapt_folder import adapt_folder
from atnas_jax.novel.adapted_network import load_adapted
from atnas_jax.novel.meta_network import save_meta_network
from atnas_jax.space.cost import cost_model
from atnas_jax.space.text import parse

REPO = str(Path(__file__).resolve().parents[2])
COUNTS = (3, 2, 5)  # support images of each class


@pytest.fixture(scope="module")
def task(classes):
    """Support images and labels of three meta_test classes with unequal counts, queries and their labels."""
    classes = classes[14:17]
    support = np.concatenate([rows[:count] for rows, count in zip(classes, COUNTS, strict=True)])
    queries = np.concatenate([rows[5:] for rows in classes])
    return support, np.repeat(np.arange(3), COUNTS), queries, np.repeat(np.arange(3), 5)


@pytest.fixture(scope="module")
def adapted(network, task):
    """The task, adapted to."""
    return adapt(network, *task[:3])


def test_unequal_classes_are_learned(adapted, network, task):
    assert adapted.probabilities.shape == (15, 3)
    assert np.allclose(adapted.probabilities.sum(1), 1, atol=1e-5)
    assert (adapted.probabilities.argmax(1) == task[3]).mean() > 0.6
    genotype = parse(network.space, adapted.genotype)
    assert np.array_equal(genotype, parse(network.space, adapted.genotype_json))
    assert (adapted.params, adapted.macs) == tuple(
        map(int, cost_model(network.space, (10, 10, 1), "flatten", 3)(genotype))
    )


def test_the_order_of_the_support_does_not_matter(adapted, network, task):
    support, labels, queries, _ = task
    order = np.argsort(np.concatenate([np.arange(count) for count in COUNTS]), kind="stable")  # classes interleaved
    assert not np.array_equal(labels, labels[order])
    again = adapt(network, support[order], labels[order], queries)
    assert again.genotype == adapted.genotype
    assert np.array_equal(again.probabilities, adapted.probabilities)


def test_an_adapter_compiles_once_for_all_tasks_of_as_many_images(adapted, network, task):
    support, labels, queries, _ = task
    adapter = make_adapter(network)
    first, again = adapter(support, labels, queries), adapter(255 - support, labels, queries, seed=1)
    assert first.compile_s > 0 and again.compile_s == 0
    assert first.genotype == adapted.genotype and np.array_equal(first.probabilities, adapted.probabilities)
    assert not np.allclose(first.probabilities, again.probabilities, atol=1e-2)
    # 13 queries are padded to as many as 15 are, and the padding has no say
    fewer = adapter(support, labels, queries[:13])
    assert fewer.compile_s == 0 and np.allclose(fewer.probabilities, first.probabilities[:13], atol=1e-6)
    # Supports of 9 to 16 images are filled up to 16, of however many classes, if each has two images.
    for rows in (labels != 1, np.arange(10) != 9):
        classes = np.unique(labels[rows], return_inverse=True)[1]
        twice = np.concatenate([support[rows]] * 2)[:12], np.concatenate([classes] * 2)[:12]
        other = adapter(*twice, queries)
        assert other.compile_s == 0 and other.probabilities.shape[1] == len(np.unique(classes))
    assert adapter(support[:9], np.arange(9) % 8, queries).compile_s > 0  # copies stand in for what a class lacks


def test_two_of_the_classes_with_a_search_of_ones_own_size(network, task):
    support, labels, queries, truth = task
    found = adapt(network, support[labels != 1], labels[labels != 1] // 2, queries, generations=1, population=2)
    assert found.probabilities.shape == (15, 2)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert (found.probabilities.argmax(1) == truth // 2)[truth != 1].mean() > 0.7


def test_queries_take_no_part(adapted, network, task):
    support, labels, queries, _ = task
    other = np.concatenate([queries[:4], 255 - queries[4:]])
    again = adapt(network, support, labels, other)
    assert again.genotype == adapted.genotype
    assert np.allclose(again.probabilities[:4], adapted.probabilities[:4], atol=1e-5)
    assert not np.allclose(again.probabilities[4:], adapted.probabilities[4:], atol=1e-2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"support": lambda x: x[:, :8]}, r"support images are uint8 \[10, 8, 10, 1\].*takes uint8 \[n,10,10,1\]"),
        ({"support": lambda x: x / 255}, "support images are float64"),
        ({"query": lambda x: x[:0]}, r"query images are uint8 \[0, 10, 10, 1\]"),
        ({"query": lambda x: np.stack([x] * 3, -1)}, r"query images are uint8 \[15, 10, 10, 3\]"),
        ({"labels": lambda y: y[:-1]}, r"support labels are int64 \[9\]; need integers \[10\]"),
        ({"labels": lambda y: y * 1.0}, "support labels are float64"),
        ({"labels": lambda y: y + 1}, r"support labels are \[1, 2, 3\]; need every one of 0..N-1"),
        ({"labels": lambda y: y * 2}, r"support labels are \[0, 2, 4\]"),
        ({"labels": lambda y: y * 0}, r"support labels are \[0\]"),
        ({"labels": lambda y: list("abcdefghij")}, "support labels are <U1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(network, task, change, says):
    change = {"support": lambda x: x, "labels": lambda y: y, "query": lambda x: x} | change
    with pytest.raises(ValueError, match=says) as caught:
        adapt(network, change["support"](task[0]), change["labels"](task[1]), change["query"](task[2]))
    assert "\n" not in str(caught.value)


def test_a_head_that_is_made_for_other_ways_is_refused(network, task):
    config = network.config.copy_and_resolve_references()
    config.learner.head, config.protocol.ways = "matrix", 5
    with pytest.raises(ValueError, match=r"the support has 3 classes; .* 'matrix' serves 5"):
        adapt(network._replace(config=config), *task[:3])


def _save(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")


@pytest.mark.parametrize("flat", [False, True])
def test_folders_in_files_out(finished, task, adapted, tmp_path, flat):
    support, labels, queries, truth = task
    for label, name in enumerate(("ant", "bee", "cow")):
        _save(tmp_path / "support" / name, support[labels == label])
        if not flat:
            _save(tmp_path / "query" / name, queries[truth == label])
    if flat:
        _save(tmp_path / "query", queries[:3])
    folders = [str(tmp_path / name) for name in ("support", "query", "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "command.txt").write_text("of an earlier adaptation")
    summary = adapt_folder(finished.workdir, *folders)
    assert not (tmp_path / "out" / "command.txt").exists()  # this process is no command
    assert json.loads((tmp_path / "out" / "adaptation.json").read_text()) == summary
    assert (summary["classes"], summary["support_images"]) == (["ant", "bee", "cow"], 10)
    assert summary["genotype"] == adapted.genotype
    assert (tmp_path / "out" / "genotype.txt").read_text() == f"{adapted.genotype}\n{adapted.genotype_json}\n"
    header, *rows = csv.reader((tmp_path / "out" / "predictions.csv").read_text().splitlines())
    assert header == ["image", "predicted", "p(ant)", "p(bee)", "p(cow)"]
    expected = adapted.probabilities[:3] if flat else adapted.probabilities
    assert np.allclose(np.array([row[2:] for row in rows], float), expected, atol=1e-4)
    assert [row[1] for row in rows] == [summary["classes"][k] for k in expected.argmax(1)]
    if flat:
        assert [row[0] for row in rows] == ["0.png", "1.png", "2.png"] and summary["accuracy"] is None
    else:
        assert rows[7][0] == "bee/2.png"
        assert summary["accuracy"] == pytest.approx((adapted.probabilities.argmax(1) == truth).mean())

    weights = load_adapted(str(tmp_path / "out"))
    assert np.array_equal(weights.predict_proba(queries), adapted.probabilities)
    assert weights.about == summary and weights.predict(queries[:2]).tolist() == [row[1] for row in rows[:2]]
    assert summary["expected"]["images"] == 10 and summary["expected"]["how"] == "leave-one-out"


def test_predict_py_runs_as_written(finished, task, tmp_path):
    """On a support of colour, of another size and in an npz; the queries are a folder."""
    support, labels, queries, _ = task
    large = np.repeat(np.repeat(np.repeat(support[..., None], 3, -1), 2, 1), 2, 2)
    np.savez(tmp_path / "support.npz", images=large, labels=labels, class_names=("ant", "bee", "cow"))
    _save(tmp_path / "query", queries[:5])
    out = tmp_path / "out"
    adapt_folder(finished.workdir, str(tmp_path / "support.npz"), str(tmp_path / "query"), str(out))
    assert len((out / "predict.py").read_text().splitlines()) <= 14
    call = [sys.executable, str(out / "predict.py")]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=_own_environment())
    assert done.returncode == 1 and done.stderr.endswith("python predict.py FOLDER\n") and "\n" not in done.stderr[:-1]
    call.append(str(tmp_path / "query"))
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=_own_environment())
    assert done.returncode == 0, done.stderr
    tables = (csv.reader(text.splitlines()) for text in (done.stdout, (out / "predictions.csv").read_text()))
    again, rows = map(list, tables)
    assert [row[:2] for row in again] == [row[:2] for row in rows] and len(rows) == 6 and again[0] == rows[0]
    np.testing.assert_allclose(*(np.array([r[2:] for r in table[1:]], float) for table in (again, rows)), atol=1e-5)


def test_images_that_are_no_squares_stay_so(network, tmp_path):
    shape = (10, 14, 1)
    learner = evaluation_learner(network.config, network.space, shape, 3)
    wide = network._replace(params=jax.jit(learner.init)(jax.random.key(0)).params, image_shape=shape)
    save_meta_network(str(tmp_path), wide)
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 28), np.uint8)
    np.savez(tmp_path / "support.npz", images=images, labels=[0, 0, 1, 1])
    _save(tmp_path / "query", images)
    out = str(tmp_path / "out")
    adapt_folder(str(tmp_path), str(tmp_path / "support.npz"), str(tmp_path / "query"), out, generations=1)
    found = load_adapted(out)
    assert found.support_images.shape == (4, *shape)
    assert np.array_equal(found.predict_folder(str(tmp_path / "query"))[2], found.predict_proba(images))


def _own_environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([REPO, os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def of_text(finished, network, task):
    """The task adapted to from Python, its classes by name and its images mixed, by the least of parameters."""
    support, labels, _, _ = task
    order = np.random.default_rng(0).permutation(len(labels))
    names = np.asarray(["cow", "ant", "bee"])[labels]
    network = atnas_jax.MetaNetwork.load(finished.workdir)
    return network.adapt(support[order], names[order].tolist(), max_params=int(_params(network, _every(network)).min()))


def _every(network):
    return np.asarray(list(itertools.product(*map(range, network.space.cards))), np.int32)


def _params(network, genotypes):
    return np.asarray(cost_model(network.space, (10, 10, 1), "flatten", 3)(genotypes))[..., 0]


def test_labels_are_what_was_given(of_text, task):
    _, _, queries, truth = task
    assert of_text.classes.tolist() == ["ant", "bee", "cow"]
    assert (of_text.predict(queries) == np.asarray(["cow", "ant", "bee"])[truth]).mean() > 0.6
    assert 0.5 < of_text.about["expected"]["accuracy"] <= 1
    assert of_text.about["evaluations"] == 8 and of_text.about["generations"] == 2


def test_what_it_predicts_survives_a_copy_a_file_and_another_size(of_text, task, tmp_path):
    queries, expected = task[2], of_text.predict_proba(task[2])
    path = of_text.save(str(tmp_path))
    for other in (pickle.loads(pickle.dumps(of_text)), atnas_jax.load_adapted(path)):
        assert np.array_equal(other.predict_proba(queries), expected)
        assert (other.classes.tolist(), other.text()) == (of_text.classes.tolist(), of_text.text())
    with np.load(path, allow_pickle=False) as file:
        assert "weights/head/w" in file.files
    colour = np.repeat(queries[..., None], 3, -1)
    assert np.allclose(of_text.predict_proba(colour), expected, atol=1e-5)
    larger = np.repeat(np.repeat(queries, 3, 1), 3, 2)
    assert (of_text.predict(larger) == of_text.predict(queries)).mean() > 0.8
    with pytest.raises(ValueError, match=r"images are float64 \[15, 10, 10, 1\]; need uint8"):
        of_text.predict(queries / 255)
    with pytest.raises(FileNotFoundError, match=r"launch\.adapt writes"):
        atnas_jax.load_adapted(str(tmp_path / "none"))
    (tmp_path / "odd.npz").write_bytes(b"no npz")
    with pytest.raises(ValueError, match="is no adapted network or is damaged"):
        atnas_jax.load_adapted(str(tmp_path / "odd.npz"))


def test_limits_hold_for_what_is_chosen(of_text, adapted, network, task):
    least = _params(network, _every(network)).min()
    assert of_text.about["params"] == _params(network, of_text.genotype) == least < adapted.params
    with pytest.raises(ValueError, match=r"max_params 5 leaves none .* the nearest has [\d,]+ parameters") as caught:
        adapt(network, *task[:3], max_params=5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_latency_ms": 1.0}, "searched with search.latency"),
        ({"generations": 0}, "adapt.generations is 0"),
        ({"seconds": -1.0}, "adapt.seconds is -1.0"),
        ({"population": 1}, "adapt.population is 1"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(network, options, says):
    with pytest.raises(ValueError, match=says):
        make_adapter(network, **options)


def test_generations_go_on_until_the_time_is_over(network, task, monkeypatch):
    """A clock that is a second later whenever somebody looks: at 1, 2, 3 s it is not over, at 4 s it is."""

    def fake(clock):
        times = itertools.count(1)
        return lambda: float(next(times))

    fit = novel.make_fit(network, seconds=4.0, generations=1, estimate=False)
    monkeypatch.setattr(novel, "stopwatch", fake)
    found = fit(task[0][..., None], task[1])
    assert found.about["generations"] == 4 and found.about["evaluations"] == 16  # one before the first look
    assert found.about["expected"] is None
    monkeypatch.setattr(novel, "stopwatch", lambda clock: lambda: 9.0)
    assert fit(task[0][..., None], task[1]).about["generations"] == 1


def test_nothing_is_written_where_the_folders_do_not_fit(finished, task, tmp_path):
    _save(tmp_path / "support" / "ant", task[0][:2])
    with pytest.raises(ValueError, match="need at least 2 class folders"):
        adapt_folder(finished.workdir, str(tmp_path / "support"), str(tmp_path / "support"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
