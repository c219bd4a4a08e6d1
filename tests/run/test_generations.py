"""generations.jsonl: who was evaluated, random search beside it, and no row lost or twice after a resume."""

import json

import numpy as np
import pytest

from atnas_jax.run.generations import add_generation, best_random, keep_generations, read_generations
from atnas_jax.space.cost import cost_model
from atnas_jax.space.text import parse, space_from_dict


def _add(workdir, generation, random=None):
    asked, costs = np.array([[0, 1], [1, 1]]), np.array([[10, 100], [20, 200]])
    add_generation(str(workdir), generation, 10 * generation, asked, np.array([0.5, -np.inf]), costs, random)


def test_rows_read_back_and_a_resume_cuts_what_its_checkpoint_does_not_hold(tmp_path):
    keep_generations(str(tmp_path), 0)
    for generation in (1, 2, 3):
        _add(tmp_path, generation)
    with open(tmp_path / "generations.jsonl", "a", encoding="utf-8") as file:
        file.write('{"generation": 4}')  # torn: no end of line
    assert [row["generation"] for row in read_generations(str(tmp_path))] == [1, 2, 3]
    keep_generations(str(tmp_path), 2)
    _add(tmp_path, 3)
    rows = [json.loads(line) for line in (tmp_path / "generations.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == [1, 2, 3]
    assert rows[0] == {
        "generation": 1, "step": 10, "genotypes": [[0, 1], [1, 1]], "fitness": [0.5, None], "params": [10, 20],
        "macs": [100, 200], "random": None,
    }  # fmt: skip


def test_a_damaged_line_names_the_file(tmp_path):
    for text in ('{"generation"\n{}\n', "[1]\n", "\n"):
        (tmp_path / "generations.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"generations.jsonl is damaged \(.*\); remove it to go on") as caught:
            read_generations(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_the_best_random_genotype_is_that_of_the_last_generation(tmp_path):
    assert best_random(str(tmp_path)) is None
    _add(tmp_path, 1, (np.array([[0, 0], [1, 0]]), np.array([0.9, 0.1])))
    assert best_random(str(tmp_path)) == [0, 0]
    _add(tmp_path, 2, (np.array([[0, 0], [1, 0], [1, 1]]), np.array([0.3, 0.4, -np.inf])))
    assert best_random(str(tmp_path)) == [1, 0]
    _add(tmp_path, 3, (np.array([[0, 0]]), np.array([-np.inf])))
    assert best_random(str(tmp_path)) is None


def test_a_run_keeps_its_generations_and_hands_on_the_best_random_genotype(finished):
    rows, space = read_generations(finished.workdir), space_from_dict(finished.results["space"])
    assert [row["generation"] for row in rows] == [1, 2]
    cost = cost_model(space, (10, 10, 1), finished.config.net.readout, finished.config.protocol.ways)
    for row, told in zip(rows, finished.results["history"], strict=True):
        assert row["step"] == told["step"]
        assert max(row["fitness"]) == pytest.approx(told["best_fitness"])
        assert row["genotypes"][int(np.argmax(row["fitness"]))] == parse(space, told["best_genotype"]).tolist()
        assert np.transpose([row["params"], row["macs"]]).tolist() == np.asarray(cost(row["genotypes"])).tolist()
        assert len(row["random"]["genotypes"]) == len(row["genotypes"]) == finished.config.search.population
    first, second = (row["random"] for row in rows)
    assert second["genotypes"][0] == first["genotypes"][int(np.argmax(first["fitness"]))]
    assert second["genotypes"][1:] != first["genotypes"][1:]


def test_the_pictures_have_the_predictions_of_the_table(finished):
    with np.load(f"{finished.workdir}/meta_test.npz", allow_pickle=False) as file:
        shown = dict(file)
    assert str(shown["row"]) == "adapted"
    assert shown["chosen/adapted"].shape == shown["chosen/random_search"].shape == (6, 5)
    assert np.array_equal(shown["genotypes"], shown["chosen/adapted"][:3])
    assert (shown["support"].shape, shown["query"].shape) == ((3, 3, 1, 10, 10, 1), (3, 3, 2, 10, 10, 1))
    right = (shown["predicted"] == np.arange(3)[:, None]).mean((1, 2))
    np.testing.assert_allclose(shown["accuracy"], right, atol=1e-6)  # all queries are shown here
    # Images of one class are alike but for noise of 0..99; those of two classes differ by up to 155 more.
    patterns = shown["support"][0, :, 0].astype(int)
    far = np.abs(patterns[:, None, None] - shown["query"][0].astype(int)).mean((3, 4, 5))
    assert np.array_equal(far.argmin(0), np.broadcast_to(np.arange(3)[:, None], (3, 2)))
