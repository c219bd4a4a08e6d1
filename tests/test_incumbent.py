"""The one-standard-error rule: chance keeps the shared best, a clear winner takes its place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.incumbent import keep_unless_better, paired_difference
from atnas_jax.pseudo import pseudo_episodes, pseudo_rows
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.types import Episode, MetaLearner

SPACE = chain_space(ChainSpec((("conv3", "sep3"),) * 2, (4, 8), (1, 2), (2, 2)))
BEST, OTHER = jnp.asarray([1, 0, 0, 0, 0]), jnp.asarray([1, 1, 0, 0, 0])
TASKS, IMAGES = 400, 15

pytestmark = pytest.mark.usefixtures("few_optimisations")


def test_the_error_is_that_of_a_mean_and_copies_are_no_more_images():
    values = np.random.default_rng(0).normal(size=12)
    mean, error = paired_difference(jnp.asarray(values), jnp.arange(12), 12)
    assert float(mean) == pytest.approx(values.mean(), abs=1e-6)
    assert float(error) == pytest.approx(values.std(ddof=1) / np.sqrt(12), rel=1e-5)
    copies = paired_difference(jnp.repeat(jnp.asarray(values), 50), jnp.repeat(jnp.arange(12), 50), 12)
    np.testing.assert_allclose(copies, (mean, error), rtol=1e-4)
    padded = jnp.asarray([*values[:6], np.nan, *values[6:], np.inf]), jnp.asarray([*range(6), -1, *range(6, 12), -1])
    np.testing.assert_allclose(paired_difference(*padded, 20), (mean, error), rtol=1e-6)


def _learner(advantage):
    """A learner of which OTHER has `advantage` nats less loss, and each image its own luck under each of the two.

    Logits are (0, a): the loss of class 0 is log(1 + exp(a)), and a = log(exp(loss) - 1) plants it.
    """

    def solve(params, mask, x, y, query_x):
        del params, x, y
        other = mask[1, 1]
        luck = jnp.where(other > 0, query_x[:, 0, 0, 0], query_x[:, 0, 1, 0])
        loss = 2 + 0.3 * luck - advantage * other
        return jnp.stack([jnp.zeros_like(loss), jnp.log(jnp.expm1(loss))], -1)

    return MetaLearner(None, None, None, solve, None)


def _taken(advantage, margin, **how):
    """Return the share of tasks in which OTHER takes the place of BEST."""
    luck = jnp.clip(jax.random.normal(jax.random.key(0), (TASKS, 1, IMAGES, 1, 2, 1)), -4, 4)

    def one(luck):
        zeros = jnp.zeros((1, IMAGES), jnp.int32)
        episodes, sources = Episode(luck, zeros, luck, zeros), jnp.arange(IMAGES)[None]
        arguments = (_learner(advantage), SPACE, {}, BEST, OTHER, episodes, sources, IMAGES, margin)
        genotype, gain = keep_unless_better(*arguments, **how)
        return (genotype == OTHER).all(), gain

    taken, gain = jax.jit(lambda: jax.lax.map(one, luck))()
    assert float(gain[:, 0].mean()) == pytest.approx(advantage, abs=0.02)
    # Two lucks of 0.3 each: the deviation of a difference is 0.3 sqrt(2).
    assert float(gain[:, 1].mean()) == pytest.approx(0.3 * np.sqrt(2 / IMAGES), rel=0.1)
    return float(taken.mean())


def test_chance_keeps_the_shared_best_and_a_clear_winner_takes_its_place():
    """Student's t of 14 degrees is above 1 in 17 % and above 2 in 3 % of the cases, above 0 in half of them."""
    assert _taken(0.0, 0.0) == pytest.approx(0.5, abs=0.07)
    assert _taken(0.0, 1.0) == pytest.approx(0.167, abs=0.06)
    assert _taken(0.0, 2.0) == pytest.approx(0.033, abs=0.03)
    assert _taken(0.5, 1.0) > 0.99 and _taken(0.5, 2.0) > 0.95  # of a standard error of 0.11


def test_an_architecture_against_itself_is_kept_at_no_margin():
    def solve(params, mask, x, y, query_x):
        return query_x[:, 0, 0]

    images = jnp.ones((2, 4, 4, 2))
    rows = pseudo_rows(np.arange(2), 5, 3)
    episodes = pseudo_episodes(jax.random.key(0), images, jnp.arange(2), rows, True)
    arguments = (MetaLearner(None, None, None, solve, None), SPACE, {}, BEST, BEST, episodes)
    genotype, gain = keep_unless_better(*arguments, jnp.asarray(rows.held), 2, 0.0)
    np.testing.assert_array_equal(genotype, BEST)
    np.testing.assert_array_equal(gain, (0, 0))


@pytest.mark.parametrize("nothing", [np.inf, np.nan])
def test_of_two_losses_the_finite_one_is_taken_and_of_none_the_shared_best_is_kept(nothing):
    def chosen(of_best, of_other, margin=2.0):
        def solve(params, mask, x, y, query_x):
            loss = jnp.where(mask[1, 1] > 0, of_other, of_best)
            return jnp.stack([jnp.zeros(len(query_x)), jnp.broadcast_to(loss, len(query_x))], -1)

        zeros = jnp.zeros((1, IMAGES), jnp.int32)
        episodes = Episode(jnp.zeros((1, IMAGES, 1, 1, 1)), zeros, jnp.zeros((1, IMAGES, 1, 1, 1)), zeros)
        arguments = (MetaLearner(None, None, None, solve, None), SPACE, {}, BEST, OTHER, episodes)
        genotype, _ = keep_unless_better(*arguments, jnp.arange(IMAGES)[None], IMAGES, margin)
        return "other" if (genotype == OTHER).all() else "best"

    assert chosen(nothing, 1.0) == "other"
    assert chosen(1.0, nothing) == chosen(nothing, nothing) == "best"
    assert chosen(1.0, 1.0) == "best" and chosen(1.0, 1.0, -np.inf) == chosen(1.0, 2.0, -np.inf) == "other"


def test_a_shared_best_beyond_the_limits_is_not_kept_and_no_other_taken():
    assert _taken(0.0, 2.0, feasible=lambda genotypes: genotypes[:, 1] == 1) == 1.0
    assert _taken(0.5, 0.0, feasible=lambda genotypes: genotypes[:, 1] == 0) == 0.0


def test_padding_has_no_say():
    """The found one is clearly better on the real queries, and diverges on those that are padding."""

    def solve(params, mask, x, y, query_x):
        spoiled = jnp.where(mask[1, 1] > 0, jnp.nan, 0.0)
        loss = jnp.where(query_x[:, 0, 0, 0] > 0, 2.0 - mask[1, 1], spoiled)
        return jnp.stack([jnp.zeros_like(loss), loss], -1)

    images = jnp.broadcast_to(
        (jnp.arange(20) < IMAGES)[None, :, None, None, None].astype(jnp.float32), (1, 20, 1, 1, 1)
    )
    labels = jnp.where(jnp.arange(20) < IMAGES, 0, -1)[None]
    learner = MetaLearner(None, None, None, solve, None, padded=True)
    arguments = (learner, SPACE, {}, BEST, OTHER, Episode(images, labels, images, labels))
    genotype, gain = keep_unless_better(*arguments, jnp.where(labels < 0, -1, jnp.arange(20)), 20, 2.0)
    np.testing.assert_array_equal(genotype, OTHER)
    assert np.isfinite(gain).all() and float(gain[0]) > 0.5
