"""A search on the support of a novel task finds what was planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.adaptation import adapt_architecture, mean_ranks
from atnas_jax.pseudo import pseudo_episodes, pseudo_rows
from atnas_jax.search.genetic import genetic
from atnas_jax.search.random_search import random_search
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of
from atnas_jax.types import MetaLearner

SPACE = chain_space(ChainSpec((("conv3", "sep3", "max3", "identity"),) * 3, (4, 8), (1, 2, 3), (2, 2, 2)))
PLANTED = jnp.asarray([2, 1, 0, 3, 1, 2, 0])


pytestmark = pytest.mark.usefixtures("few_optimisations")


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
    return pseudo_episodes(jax.random.key(0), x, jnp.asarray(labels), pseudo_rows(labels, 2, 1), False)


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
