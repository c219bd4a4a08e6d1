"""Paired differences by hand, the permutation that leaves no episode its own, and which rows are compared."""

import numpy as np
import pytest

from atnas_jax.evidence.paired import derangement, paired, paired_table, pairs_of, same_share
from atnas_jax.job.defaults import ROWS


def test_a_paired_difference_by_hand():
    # differences 0.1, -0.1, 0.3: mean 0.1; squares around it 0, 0.04, 0.04 over n - 1 = 2: sd = 0.2
    (found,) = paired({"adapted": np.asarray([0.2, 0.4, 0.9]), "best": np.asarray([0.1, 0.5, 0.6])})
    assert found == {
        "row": "adapted", "minus": "best", "difference": pytest.approx(0.1),
        "ci95": pytest.approx(1.96 * 0.2 / np.sqrt(3)), "episodes": 3,
    }  # fmt: skip
    text = paired_table({"inductive": [found]}, 0.25).splitlines()
    assert text[2].split() == ["adapted", "-", "best", "+10.00", "±", "22.63"]
    assert text[-1] == "in 25.0 % of the episodes the permuted architecture is the chosen one"


def test_what_all_episodes_share_adds_no_width():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, 500)
    rows = {"adapted": 0.6 + shared, "best": 0.59 + shared + rng.normal(0, 0.001, 500)}
    (found,) = paired(rows)
    assert abs(found["difference"] - 0.01) < found["ci95"] < 1e-3
    assert paired({"adapted": rows["adapted"], "best": rows["best"][::-1]})[0]["ci95"] > 0.01


@pytest.mark.parametrize("episodes", [2, 3, 50, 600])
def test_nobody_keeps_the_own_architecture(episodes):
    order = derangement(episodes)
    assert sorted(order) == list(range(episodes))
    assert (order != np.arange(episodes)).all()


def test_the_share_of_permuted_architectures_that_are_the_chosen_ones():
    assert same_share(np.asarray([[0, 1], [0, 1], [2, 1], [0, 0]])) == 0.25
    assert same_share(np.zeros((5, 3))) == 1.0


def test_every_row_is_compared_with_the_best_one_once():
    pairs = pairs_of(ROWS)
    assert {row for pair in pairs if "best" in pair for row in pair} == set(ROWS)
    assert {("adapted", "permuted_architecture"), ("adapted", "best"), ("best", "conv4")} <= set(pairs)
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    assert pairs_of(("best",)) == pairs_of(("adapted", "conv4")) == []
