"""A novel task from its support: folds that share nothing, and a search that finds what was planted."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.adaptation import (
    adapt_architecture,
    mean_ranks,
    moved_rows,
    pseudo_episodes,
    pseudo_sources,
    support_folds,
)
from atnas_jax.search.genetic import genetic
from atnas_jax.search.random_search import random_search
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of
from atnas_jax.types import MetaLearner

SPACE = chain_space(ChainSpec((("conv3", "sep3", "max3", "identity"),) * 3, (4, 8), (1, 2, 3), (2, 2, 2)))
PLANTED = jnp.asarray([2, 1, 0, 3, 1, 2, 0])


pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.mark.parametrize(
    ("counts", "folds", "number", "held"),
    [
        ((5, 5, 5), 5, 5, 3),  # leave one out of each class
        ((5, 5, 5), 2, 2, 6),  # 2 of 5 of each class, the fifth is never held out
        ((2, 7, 3), 5, 2, 1 + 3 + 1),  # as many folds as the smallest class has images
        ((4, 4), 3, 3, 2),
    ],
)
def test_folds(counts, folds, number, held):
    labels = np.repeat(np.arange(len(counts)), counts)
    learn, out = support_folds(labels, folds)
    assert learn.shape == (number, len(labels) - held) and out.shape == (number, held)
    for rows, query in zip(learn, out, strict=True):
        assert sorted([*rows, *query]) == list(range(len(labels)))  # disjoint, and together the whole support
        assert set(labels[rows]) == set(labels[query]) == set(range(len(counts)))
        assert Counter(labels[query]) == {label: count // number for label, count in enumerate(counts)}
    assert len(set(out.reshape(-1).tolist())) == out.size  # no image is held out twice


def test_folds_of_one_image_are_refused():
    with pytest.raises(ValueError, match="the smallest class has 1"):
        support_folds(np.array([0, 0, 1]), 5)


def _support(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = jax.random.uniform(jax.random.key(1), (len(labels), 6, 6, 1))
    return images, jnp.asarray(labels), labels


def test_folds_become_episodes():
    x, y, labels = _support((3, 2))
    episodes = pseudo_episodes(jax.random.key(0), x, y, labels, folds=5, copies=4)
    learn, out = support_folds(labels, 5)
    assert jax.tree.map(jnp.shape, episodes) == ((2, 3, 6, 6, 1), (2, 3), (2, 2, 6, 6, 1), (2, 2))
    for fold in range(2):
        np.testing.assert_array_equal(episodes.support_x[fold], x[learn[fold]])
        np.testing.assert_array_equal(episodes.query_x[fold], x[out[fold]])
        np.testing.assert_array_equal(episodes.support_y[fold], labels[learn[fold]])
        np.testing.assert_array_equal(episodes.query_y[fold], labels[out[fold]])


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 1, 2)])
def test_moved_copies_stand_in_where_a_class_has_one_image(counts):
    x, y, labels = _support(counts)
    x = x + jnp.arange(len(labels))[:, None, None, None]  # an image and its copies lie in i..i+1
    episodes = jax.jit(lambda x: pseudo_episodes(jax.random.key(0), x, y, labels, folds=5, copies=4))(x)
    number = len(labels)
    assert jax.tree.map(jnp.shape, episodes) == ((1, number, 6, 6, 1), (1, number), (1, 12, 6, 6, 1), (1, 12))
    np.testing.assert_array_equal(episodes.support_x[0], x)
    np.testing.assert_array_equal(episodes.query_y[0], np.repeat(np.arange(3), 4))  # as many of every class
    assert not any(np.array_equal(query, image) for query in episodes.query_x[0] for image in x)
    sources = pseudo_sources(labels, 5, 4)
    np.testing.assert_array_equal(np.floor(episodes.query_x[0].mean((1, 2, 3))), sources[0])
    np.testing.assert_array_equal(labels[sources[0]], episodes.query_y[0])


def test_the_images_of_a_class_take_turns():
    labels = np.repeat(np.arange(3), (3, 1, 2))
    np.testing.assert_array_equal(moved_rows(labels, 4), [0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 5, 5])
    np.testing.assert_array_equal(moved_rows(np.repeat(np.arange(2), (1, 5)), 2), [0] * 5 + [1, 2, 3, 4, 5])


def test_mean_ranks_by_hand():
    values = jnp.asarray([[3.0, -1e9], [1.0, 5.0], [3.0, 7.0], [-jnp.inf, 5.0]])
    # first column: 2.5, 1, 2.5, 0 of 3; second: 0, 1.5, 3, 1.5 of 3
    np.testing.assert_allclose(mean_ranks(values), np.asarray([2.5, 2.5, 5.5, 1.5]) / 6, rtol=1e-6)
    np.testing.assert_array_equal(mean_ranks(values), mean_ranks(jnp.stack([values[:, 0] * 2, values[:, 1] / 9], 1)))


def test_the_mix_ranks_by_both_and_by_neither_alone():
    """The loss wants PLANTED and the score wants slot 0 low; one generation is ranked as a table by hand would be."""
    strategy, learner = random_search(SPACE, population=24), _planted_learner(PLANTED)

    def score(masks):
        return -masks[:, 0, 1] - 2 * masks[:, 0, 2]

    def search(key, **how):
        return adapt_architecture(key, learner, SPACE, strategy, {}, None, _episodes(), 1, score=score, **how)

    @jax.jit
    def both(key):
        first, rest = jax.random.split(key)
        asked = strategy.ask(jax.random.split(rest, 1)[0], strategy.init(first, None))
        return asked, *search(key, mixed=True), search(key)[0]

    different = 0
    for seed in range(4):
        asked, genotype, fitness, by_score = map(np.asarray, both(jax.random.key(seed)))
        loss = _loss((asked == np.asarray(PLANTED)).sum(1))
        table = np.stack([-loss, -asked[:, 0].astype(float)], 1)
        assert np.isfinite(fitness)
        ranks = ((table[:, None] > table[None]).sum(1) + 0.5 * (table[:, None] == table[None]).sum(1)).mean(1)
        assert ranks[(asked == genotype).all(1)][0] == pytest.approx(ranks.max())
        different += not np.array_equal(genotype, asked[np.argmin(loss)]) and not np.array_equal(genotype, by_score)
    assert different > 0


def test_the_mix_never_leads_with_what_is_beyond_the_limits():
    def feasible(genotypes):
        return genotypes[:, 0] == 1

    strategy = genetic(SPACE, population=6)  # which does not know the limit
    arguments = (_planted_learner(PLANTED), SPACE, strategy, {}, PLANTED[None], _episodes(), 6)
    genotype, fitness = jax.jit(
        lambda key: adapt_architecture(
            key, *arguments, feasible=feasible, score=lambda masks: masks[:, 0, 2], mixed=True
        )
    )(jax.random.key(0))
    assert genotype[0] == 1 and np.isfinite(fitness)


def _planted_learner(best):
    """A learner whose query loss falls with the number of slots that agree with `best`; images hold their label."""

    def predict(adapted, mask, support_x, query_x):
        agreement = 0.5 * jnp.sum(mask * mask_of(SPACE, best))
        return agreement * jax.nn.one_hot(query_x[:, 0, 0, 0].astype(jnp.int32), 3)

    return MetaLearner(
        None,
        lambda params, mask, x, y: params,
        predict,
        lambda params, mask, x, y, query_x: predict(params, mask, x, query_x),
        None,
    )


def _episodes():
    labels = np.repeat(np.arange(3), 2)
    x = jnp.broadcast_to(jnp.asarray(labels, jnp.float32)[:, None, None, None], (6, 2, 2, 1))
    return pseudo_episodes(jax.random.key(0), x, jnp.asarray(labels), labels, folds=2, copies=1)


def _loss(agreement):
    """The mean cross-entropy by hand: logits are `agreement` / 2 at the label and 0 at the other two classes."""
    return np.log(np.exp(agreement / 2) + 2) - agreement / 2


def test_the_planted_architecture_is_found():
    search = genetic(SPACE, population=20)
    arguments = (_planted_learner(PLANTED), SPACE, search, {}, None, _episodes(), 30)
    genotype, fitness = jax.jit(lambda key: adapt_architecture(key, *arguments))(jax.random.key(0))
    np.testing.assert_array_equal(genotype, PLANTED)
    assert float(fitness) == pytest.approx(-_loss(7), rel=1e-4)


def test_a_warm_start_is_never_worsened_and_one_key_gives_one_answer():
    warm = jnp.stack([PLANTED.at[1].set(0), jnp.zeros(7, jnp.int32)])  # six of seven slots agree
    strategy = genetic(SPACE, population=3)
    search = jax.jit(
        lambda key: adapt_architecture(key, _planted_learner(PLANTED), SPACE, strategy, {}, warm, _episodes(), 2)
    )
    for seed in range(5):
        genotype, fitness = search(jax.random.key(seed))
        assert float(fitness) >= -_loss(6) - 1e-5
        again, same = search(jax.random.key(seed))
        assert np.array_equal(genotype, again) and fitness == same


def test_generations_and_population_are_the_budget():
    def fitness(population, generations):
        search = random_search(SPACE, population=population)
        return jax.jit(
            jax.vmap(
                lambda key: adapt_architecture(
                    key, _planted_learner(PLANTED), SPACE, search, {}, None, _episodes(), generations
                )[1]
            )
        )(jax.random.split(jax.random.key(0), 32)).mean()

    assert fitness(4, 1) < fitness(4, 8)


def test_what_is_beyond_the_limits_is_not_chosen():
    def feasible(genotypes):
        return genotypes[:, 0] != PLANTED[0]

    search = genetic(SPACE, population=20, feasible=feasible)
    warm = PLANTED[None]  # the best of all, but beyond the limits
    genotype, fitness = jax.jit(
        lambda key: adapt_architecture(
            key, _planted_learner(PLANTED), SPACE, search, {}, warm, _episodes(), 30, feasible=feasible
        )
    )(jax.random.key(0))
    assert genotype[0] != PLANTED[0]
    assert float(fitness) == pytest.approx(-_loss(6), rel=1e-4)
