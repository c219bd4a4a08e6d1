"""The pool, the proposers, and the searches that a predictor guides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.guided import guided, predictor_search
from atnas_jax.search.pool import empty_pool, insert, ranked
from atnas_jax.search.predictors.base import Predictor, climb
from atnas_jax.search.predictors.kernel import gp, ridge
from atnas_jax.search.proposers import choose, make_proposer
from atnas_jax.space.slots import SearchSpace, mask_of, random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")


def space_of(cards):
    return SearchSpace(
        "toy", (), tuple(f"s{i}" for i in range(len(cards))), tuple(tuple(map(str, range(c))) for c in cards)
    )


LINE, SPACE = space_of((9,)), space_of((4, 3, 4, 1, 4, 3, 4, 4))
PLANTED = jnp.asarray([3, 0, 2, 0, 1, 2, 0, 3], jnp.int32)
KEY = jax.random.key(0)


def column(*values):
    return jnp.asarray(values, jnp.int32)[:, None]


def agreement(genotypes):
    """[P,1]: how many slots agree with the planted genotype, weighted so that there are no ties."""
    return ((genotypes == PLANTED) * (1 + 0.1 * jnp.arange(8))).sum(-1, keepdims=True)


def held(pool):
    return {int(g): float(f) for g, f, ok in zip(pool.genotypes[:, 0], pool.fitness, pool.filled) if ok}


def test_the_pool_fills_then_replaces_the_worst():
    pool = insert(empty_pool(LINE, 4), column(1, 2, 3), jnp.asarray([0.1, 0.5, 0.3]))
    assert held(pool) == pytest.approx({1: 0.1, 2: 0.5, 3: 0.3})
    pool = insert(pool, column(4, 5), jnp.asarray([0.05, 0.2]))  # one row is empty, then 1 is the worst
    assert held(pool) == pytest.approx({2: 0.5, 3: 0.3, 4: 0.05, 5: 0.2})
    assert list(pool.genotypes[ranked(pool), 0]) == [2, 3, 5, 4]


def test_what_is_told_again_keeps_its_row_and_gets_its_new_fitness():
    pool = insert(empty_pool(LINE, 3), column(1, 2, 3), jnp.asarray([0.1, 0.5, 0.3]))
    pool = insert(pool, column(1, 6, 6), jnp.asarray([0.2, 0.9, 0.0]))  # 3 is the worst of those not told again
    assert held(pool) == pytest.approx({1: 0.2, 2: 0.5, 6: 0.9})
    failed = insert(pool, column(7), jnp.asarray([-jnp.inf]))
    assert held(failed) == pytest.approx({7: -np.inf, 2: 0.5, 6: 0.9})
    assert list(ranked(insert(empty_pool(LINE, 2), column(7), jnp.asarray([-jnp.inf])))) == [0, 1]


def test_what_is_asked_is_feasible_first_then_new_then_good():
    pool = insert(empty_pool(LINE, 4), column(4), jnp.asarray([1.0]))
    rows, score = column(1, 2, 2, 3, 4, 8), jnp.asarray([0.1, 0.2, 0.2, 0.5, 0.7, 5.0])

    def asked(feasible, *fresh):
        return choose(rows, score, column(*fresh), feasible, pool)[:, 0].tolist()

    assert asked(lambda rows: rows[:, 0] < 7, 5, 8) == [3, 2]
    assert asked(None, 5, 8) == [8, 3]
    # All that is left after 3, 2, 1: a random one, then the feasible old one before the copy and what is infeasible.
    assert asked(lambda rows: rows[:, 0] < 7, 5, 8, 8, 8, 8)[:5] == [3, 2, 1, 5, 4]
    assert list(choose(rows, jnp.full(6, jnp.nan), column(0, 8), None, pool)[:, 0]) == [1, 2]


def test_random_until_the_seeds_are_told_then_fitted_when_due():
    """A predictor that counts its fits, told 4 at a time: 10 seeds, a refit every 8."""

    def fit(key, fitted, genotypes, fitness, filled):
        return fitted._replace(parameter=fitted.parameter + 1)

    def init(key, n):
        return ridge(SPACE).init(key, n)._replace(parameter=jnp.float32(0))

    def propose(key, fitted, pool, fresh):
        return jnp.broadcast_to(PLANTED, fresh.shape)

    counting: Predictor = ridge(SPACE)._replace(init=init, fit=fit)
    sizes = {"population": 4, "seeds": 10, "refit": 8, "pool": 6, "elites": 1}
    strategy = guided(SPACE, counting, propose, **sizes, feasible=None, tries=4)
    tell = jax.jit(strategy.tell)
    ask, state, fits, guided_asks = jax.jit(strategy.ask), strategy.init(KEY), [], []
    for generation in range(7):
        asked = ask(jax.random.key(generation), state)
        guided_asks.append(bool((asked[1:] == PLANTED).all()))
        top = state.pool.genotypes[ranked(state.pool)[0]]
        assert not guided_asks[-1] or bool((asked[0] == top).all())
        state = tell(state, asked, agreement(asked))
        fits.append(int(state.fitted.parameter))
    assert guided_asks == [False] * 3 + [True] * 4
    assert fits == [0, 0, 1, 1, 2, 2, 3]
    assert bool(state.pool.filled.all()) and int(state.told) == 28


def best_after(strategy, evaluate, generations):
    """Return keys -> the best fitness after so many generations of one run per key; a loop, as vmap fits every time."""

    def run(key):
        key_init, key_run = jax.random.split(key)

        def step(state, key):
            asked = strategy.ask(key, state)
            return strategy.tell(state, asked, evaluate(asked)), None

        keys = jax.random.split(key_run, generations)
        return jax.lax.scan(step, strategy.init(key_init), keys)[0].best_fitness

    return jax.jit(lambda keys: jax.lax.map(run, keys))


@pytest.mark.parametrize("proposer", ["rank_mutated", "ascent"])
def test_finds_a_planted_optimum_in_120_evaluations(proposer):
    """Of 9,216 genotypes, of which random search sees one in 77."""
    strategy = predictor_search(SPACE, proposer=proposer, population=10, candidates=100, pool=120, elites=0)
    best = best_after(strategy, agreement, 12)(jax.random.split(jax.random.key(1), 4))
    assert np.mean(np.asarray(best) > float(agreement(PLANTED[None])[0, 0]) - 1e-3) >= 0.75


def test_gp_ucb_solves_a_quadratic_of_two_slots_in_30_evaluations():
    """Of 64 genotypes: random search solves less than half of the runs."""
    space, top = space_of((8, 8)), jnp.asarray([5, 3])

    def quadratic(rows):
        return -jnp.square(rows - top).sum(-1, keepdims=True).astype(jnp.float32)

    strategy = predictor_search(space, predictor="gp", proposer="ucb", population=5, seeds=10, pool=30, elites=0)
    keys = jax.random.split(KEY, 16)
    assert np.mean(np.asarray(best_after(strategy, quadratic, 6)(keys)) == 0) >= 0.9


@functools.cache
def told():
    """A pool of 40 random genotypes and a Gaussian process fitted to it."""
    rows = random_genotypes(KEY, SPACE, 40)
    pool = insert(empty_pool(SPACE, 40), rows, agreement(rows)[:, 0])
    return pool, jax.jit(gp(SPACE).fit)(KEY, gp(SPACE).init(KEY, 40), *pool)


def proposal(name, **options):
    pool, fitted = told()
    fresh = random_genotypes(jax.random.key(9), SPACE, 6)
    propose = make_proposer(name, SPACE, gp(SPACE), **options)
    return jax.jit(propose)(jax.random.key(4), fitted, pool, fresh)


@jax.jit
def mean_and_deviation(rows):
    codes = mask_of(SPACE, rows)
    return gp(SPACE).mean(told()[1], codes).mean(), gp(SPACE).deviation(told()[1], codes).mean()


def test_kappa_buys_doubt_with_mean():
    cautious, bold = (mean_and_deviation(proposal("ucb", kappa=kappa)) for kappa in (0.0, 20.0))
    assert bold[0] < cautious[0] and bold[1] > cautious[1]


def test_more_candidates_are_better_by_the_prediction():
    few, many = (mean_and_deviation(proposal("rank_mutated", candidates=n))[0] for n in (10, 400))
    assert many > few + 0.02


def test_fewer_parents_keep_children_near_the_best():
    pool, _ = told()
    best = pool.genotypes[ranked(pool)[0]]
    options = {"crossover_rate": 0.0, "mutation_rate": 0.1, "candidates": 50}
    far = [float((proposal("rank_mutated", parents=p, **options) != best).sum(-1).mean()) for p in (0.02, 1.0)]
    assert far[0] < 2 and far[0] < far[1]


def test_the_ascent_asks_what_the_climb_leads_to():
    pool, fitted = told()
    start = pool.genotypes[ranked(pool)[:10]]  # a quarter of the pool
    move = climb(gp(SPACE), fitted, start)
    for steps in (1, 10):
        reached = {tuple(row) for eta in range(1, steps + 1) for row in np.asarray(move(float(eta))).tolist()}
        reached -= {tuple(row) for row in np.asarray(pool.genotypes).tolist()}
        asked = [tuple(row) for row in np.asarray(proposal("ascent", climb_steps=steps)).tolist()]
        assert len(set(asked)) == 6
        assert len(reached & set(asked)) == min(6, len(reached))
    assert len(reached) > 6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"predictor": "lstm"}, "allowed: ridge, gp, mlp, nao"),
        ({"proposer": "greedy"}, "allowed: rank_mutated, ucb, ascent"),
        ({"predictor": "mlp", "proposer": "ucb"}, "take predictor 'gp' or 'ridge'"),
        ({"pool": 19}, "pool=19"),
        ({"seeds": 0}, "seeds=0"),
        ({"refit": 0}, "refit=0"),
        ({"elites": 20}, "elites=20"),
        ({"kappa": -1.0}, "kappa=-1"),
        ({"parents": 0.0}, "parents=0"),
        ({"candidates": 0}, "candidates=0"),
        ({"climb_steps": 0}, "climb_steps=0"),
    ],
)
def test_bad_options_are_one_line(options, word):
    with pytest.raises(ValueError, match=word) as error:
        predictor_search(SPACE, **options)
    assert "\n" not in str(error.value)


def test_a_predictor_of_ones_own_is_taken():
    strategy = predictor_search(LINE, predictor=gp(LINE, noises=(1e-4,)), population=3, seeds=3, pool=9, elites=0)
    state = strategy.init(KEY)
    state = jax.jit(strategy.tell)(state, state.population, state.population.astype(jnp.float32))
    assert float(state.fitted.factor[0, 0]) == pytest.approx(np.sqrt(1 + 1e-4))
