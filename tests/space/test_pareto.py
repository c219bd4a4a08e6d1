"""Pareto ranks and crowding against plain loops and hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.space.pareto import crowding_distance, pareto_front, pareto_ranks


def plain_ranks(points):
    ranks, left, front = np.full(len(points), -1), set(range(len(points))), 0
    while left:
        free = {
            j for j in left if not any((points[i] >= points[j]).all() and (points[i] > points[j]).any() for i in left)
        }
        ranks[list(free)] = front
        left, front = left - free, front + 1
    return ranks


def plain_crowding(points, ranks):
    distance = np.zeros(len(points))
    for front in set(ranks):
        members = np.flatnonzero(ranks == front)
        for m in range(points.shape[1]):
            order = members[np.argsort(points[members, m])]
            span = points[order[-1], m] - points[order[0], m]
            distance[order[[0, -1]]] = np.inf
            for before, here, after in zip(order, order[1:], order[2:]):
                distance[here] += (points[after, m] - points[before, m]) / span
    return distance


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_against_plain_loops(objectives):
    ranks_of, crowd_of = jax.jit(pareto_ranks), jax.jit(crowding_distance)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rough = rng.integers(0, 5, (30, objectives)).astype(np.float32)  # with ties
        np.testing.assert_array_equal(ranks_of(rough), plain_ranks(rough))
        smooth = rng.normal(size=(30, objectives)).astype(np.float32)
        ranks = np.asarray(ranks_of(smooth))
        np.testing.assert_array_equal(ranks, plain_ranks(smooth))
        np.testing.assert_array_equal(pareto_front(smooth), ranks == 0)
        np.testing.assert_allclose(crowd_of(smooth, ranks), plain_crowding(smooth, ranks), rtol=1e-4)


def test_crowding_by_hand():
    points = jnp.asarray([[0.0, 10.0], [1.0, 9.0], [4.0, 3.0], [10.0, 0.0]])
    crowd = crowding_distance(points, pareto_ranks(points))
    np.testing.assert_allclose(crowd, [np.inf, 0.4 + 0.7, 0.9 + 0.9, np.inf], rtol=1e-6)


def test_failed_points_come_last_and_stay_finite_elsewhere():
    points = jnp.asarray([[1.0, 0.0], [-jnp.inf, -jnp.inf], [0.0, 1.0], [0.5, 0.5], [-jnp.inf, -jnp.inf]])
    ranks = pareto_ranks(points)
    np.testing.assert_array_equal(ranks, [0, 1, 0, 0, 1])
    crowd = np.asarray(crowding_distance(points, ranks))
    assert not np.isnan(crowd).any() and crowd[3] == 2


def test_equal_points_share_a_front():
    assert pareto_front(jnp.ones((4, 2))).all()
