"""The contract that every strategy keeps, and the rules of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.nsga2 import crowded_order
from atnas_jax.search.strategies import STRATEGIES, make_strategy
from atnas_jax.space.slots import SearchSpace

pytestmark = pytest.mark.usefixtures("few_optimisations")
OPTIONS = {
    "random": {"population": 12},
    "genetic": {"population": 12, "elites": 2, "immigrants": 2},
    "regularised": {"population": 24, "sample": 6, "children": 12},
    "nsga2": {"population": 12, "objectives": 2},
    "reinforce": {"population": 12},
    "mdenas": {"population": 12},
    "asng": {"population": 12},
    "coevolution": {"population": 12, "species": 3},
    "staged": {"population": 12, "rounds": 2, "beam": 3},
    "islands": {"population": 12, "islands": 3, "migrate_every": 2},
    "nao": {
        "population": 12,
        "seeds": 24,
        "refit": 24,
        "pool": 24,
        "fit_steps": 2,
        "embedding": 2,
        "hidden": 4,
        "climb_steps": 2,
    },
    "predictor": {"population": 12, "seeds": 24, "pool": 36, "candidates": 30},
}
NAMES = list(STRATEGIES)


def space_of(cards):
    return SearchSpace(
        "toy", (), tuple(f"s{i}" for i in range(len(cards))), tuple(tuple(map(str, range(c))) for c in cards)
    )


SPACE = space_of((4, 3, 4, 1, 4, 3, 4, 4))
PLANTED = jnp.asarray([3, 0, 2, 0, 1, 2, 0, 3], jnp.int32)


def fitness_of(genotypes):
    """[P,2]: how many slots agree with the planted genotype (weighted, so no ties), and how few are non-zero."""
    weights = 1 + 0.1 * jnp.arange(8)
    agree = ((genotypes == PLANTED) * weights).sum(-1)
    return jnp.stack([agree, -(genotypes != 0).sum(-1).astype(jnp.float32)], -1)


def compiled(name, **options):
    strategy = make_strategy(name, SPACE, **options)
    return strategy._replace(init=jax.jit(strategy.init), ask=jax.jit(strategy.ask), tell=jax.jit(strategy.tell))


@functools.cache
def jitted(name):
    return compiled(name, **OPTIONS[name])


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    strategy = jitted(name)
    state = strategy.init(jax.random.key(0))
    first = shapes(state)
    top, sizes = -np.inf, set()
    for generation in range(5):
        key = jax.random.key(generation)
        before = jax.tree.map(np.asarray, state)
        asked = strategy.ask(key, state)
        np.testing.assert_array_equal(asked, strategy.ask(key, state))
        jax.tree.map(np.testing.assert_array_equal, state, before)
        assert asked.shape == (12, SPACE.num_slots) and asked.dtype == jnp.int32
        assert np.all((asked >= 0) & (asked < np.asarray(SPACE.cards)))
        fitness = fitness_of(asked)
        state = strategy.tell(state, asked, fitness)
        assert shapes(state) == first
        top = max(top, float(fitness[:, 0].max()))
        assert float(state.best_fitness) == top
        np.testing.assert_allclose(fitness_of(strategy.best(state)[None])[0, 0], top)
        sizes.add((strategy.ask._cache_size(), strategy.tell._cache_size()))
    assert int(state.generation) == 5
    assert len(sizes) == 1, "a later generation compiled again"


@pytest.mark.parametrize("name", NAMES)
def test_scan_equals_the_loop_and_the_same_key_the_same_run(name):
    strategy = jitted(name)
    keys = jax.random.split(jax.random.key(7), 4)

    def step(state, key):
        asked = strategy.ask(key, state)
        return strategy.tell(state, asked, fitness_of(asked)), asked

    state = strategy.init(jax.random.key(1))
    scanned, rows = jax.lax.scan(step, state, keys)
    for key, row in zip(keys, rows):
        state, asked = step(state, key)
        np.testing.assert_array_equal(asked, row)
    jax.tree.map(np.testing.assert_array_equal, state, scanned)
    assert len({np.asarray(row).tobytes() for row in rows}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_never_best_and_never_stored(name):
    strategy = jitted(name)
    state = strategy.init(jax.random.key(0))
    asked = strategy.ask(jax.random.key(1), state)
    failed = strategy.tell(state, asked, jnp.full((12, 2), jnp.nan))
    assert float(failed.best_fitness) == -np.inf and not np.isnan(failed.fitness).any()
    again = strategy.ask(jax.random.key(2), failed)
    fitness = jnp.full((12, 2), jnp.nan).at[5].set(0.5)
    state = strategy.tell(failed, again, fitness)
    np.testing.assert_array_equal(strategy.best(state), again[5])
    assert float(state.best_fitness) == 0.5 and not np.isnan(state.fitness).any()


@pytest.mark.parametrize("name", NAMES)
def test_warm_start_is_asked_first_in_order(name):
    strategy = jitted(name)
    warm = jnp.stack([PLANTED, jnp.zeros_like(PLANTED), PLANTED])
    state = strategy.init(jax.random.key(0), warm)
    asked = strategy.ask(jax.random.key(1), state)
    np.testing.assert_array_equal(asked[:3], warm)
    state = strategy.tell(state, asked, fitness_of(asked))
    np.testing.assert_array_equal(strategy.best(state), PLANTED)
    with pytest.raises(ValueError, match="warm start"):
        strategy.init(jax.random.key(0), jnp.zeros((99, 8), jnp.int32))
    with pytest.raises(ValueError, match="warm start"):
        strategy.init(jax.random.key(0), jnp.zeros((3, 7), jnp.int32))


@pytest.mark.parametrize("name", NAMES)
def test_every_genotype_asked_is_feasible(name):
    def feasible(rows):
        return rows[:, 0] + rows[:, 2] <= 2  # 6 of 16 pairs

    strategy = make_strategy(name, SPACE, **OPTIONS[name], feasible=feasible, tries=40)

    def step(state, key):
        asked = strategy.ask(key, state)
        return strategy.tell(state, asked, fitness_of(asked)), feasible(asked).all()

    def run(key):
        return jax.lax.scan(step, strategy.init(key), jax.random.split(key, 8))[1]

    assert jax.jit(run)(jax.random.key(0)).all()


def test_elites_are_asked_again_and_forget_a_lucky_score():
    strategy = jitted("genetic")
    state = strategy.init(jax.random.key(0))
    asked = strategy.ask(jax.random.key(1), state)
    lucky = jnp.zeros((12, 1)).at[4].set(9.0).at[7].set(8.0)
    state = strategy.tell(state, asked, lucky)
    again = strategy.ask(jax.random.key(2), state)
    np.testing.assert_array_equal(again[:2], asked[jnp.asarray([4, 7])])
    state = strategy.tell(state, again, jnp.arange(12.0)[:, None])
    np.testing.assert_array_equal(strategy.ask(jax.random.key(3), state)[:2], again[jnp.asarray([11, 10])])


def test_genetic_without_variation_breeds_among_the_parents_only():
    strategy = compiled("genetic", population=8, elites=0, parents=0.25, crossover_rate=0.0, mutation_rate=0.0, tries=1)
    state = strategy.init(jax.random.key(0))
    asked = strategy.ask(jax.random.key(1), state)
    state = strategy.tell(state, asked, jnp.arange(8.0)[:, None])
    children = np.asarray(strategy.ask(jax.random.key(2), state))
    assert {row.tobytes() for row in children} <= {np.asarray(row).tobytes() for row in asked[6:]}


def test_tournament_selection_is_an_option():
    strategy = compiled(
        "genetic",
        population=8,
        elites=0,
        selection="tournament",
        tournament_size=200,
        mutation_rate=0.0,
        tries=1,
    )
    state = strategy.init(jax.random.key(0))
    asked = strategy.ask(jax.random.key(1), state)
    state = strategy.tell(state, asked, jnp.arange(8.0)[:, None])
    np.testing.assert_array_equal(strategy.ask(jax.random.key(2), state), jnp.tile(asked[7], (8, 1)))


def test_regularised_fills_its_queue_then_drops_the_oldest():
    strategy = jitted("regularised")
    state = strategy.init(jax.random.key(0))
    initial, asked = state.population, []
    for generation in range(3):
        asked.append(strategy.ask(jax.random.key(generation), state))
        state = strategy.tell(state, asked[-1], jnp.full((12, 1), 10.0 - generation))
    np.testing.assert_array_equal(jnp.concatenate(asked[:2]), initial)
    # The best members, told first, are the oldest: they die all the same.
    np.testing.assert_array_equal(state.population, jnp.concatenate([asked[2], asked[1]]))
    np.testing.assert_array_equal(state.fitness[:, 0], [8.0] * 12 + [9.0] * 12)
    distance = (np.asarray(asked[2])[:, None] != np.asarray(initial)).sum(-1).min(-1)
    assert distance.max() == 1


def test_islands_send_their_best_to_the_next_at_the_due_generations_and_else_live_alone():
    strategy, inner = jitted("islands"), compiled("genetic", population=4)
    state = strategy.init(jax.random.key(0))
    alone = state.islands
    for generation in range(4):
        key = jax.random.key(generation)
        asked = strategy.ask(key, state)
        rows = jax.vmap(inner.ask)(jax.random.split(key, 3), alone)
        np.testing.assert_array_equal(asked, rows.reshape(12, -1))
        scores = jax.random.permutation(key, jnp.arange(12.0))[:, None]
        state = strategy.tell(state, asked, scores)
        alone = jax.vmap(inner.tell)(alone, rows, scores.reshape(3, 4, 1))
        if generation % 2:
            best, worst = (np.asarray(f(alone.fitness[..., 0], axis=1)) for f in (jnp.argmax, jnp.argmin))
            population, fitness = np.array(alone.population), np.array(alone.fitness)
            for island in range(3):
                left = (island - 1) % 3
                population[island, worst[island]] = rows[left, best[left]]
                fitness[island, worst[island]] = alone.fitness[left, best[left]]
            alone = alone._replace(population=jnp.asarray(population), fitness=jnp.asarray(fitness))
        jax.tree.map(np.testing.assert_array_equal, state.islands, alone)
        np.testing.assert_array_equal(state.population, alone.population.reshape(12, -1))
        np.testing.assert_array_equal(state.fitness, alone.fitness.reshape(12, 1))


def test_crowded_order_puts_copies_last_and_ends_of_the_front_first():
    rows = jnp.asarray([[0], [1], [2], [3], [1]], jnp.int32)
    fitness = jnp.asarray([[0.0, 3.0], [2.0, 2.0], [3.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
    order = np.asarray(crowded_order(rows, fitness))
    assert set(order[:2]) == {0, 2} and list(order[2:]) == [1, 3, 4]


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("annealing", {}, "allowed: random, genetic, regularised, nsga2"),
        ("genetic", {"elite": 3}, "'elite'.*elites"),
        ("genetic", {"population": 0}, "population=0"),
        ("genetic", {"elites": 20}, "elites=20"),
        ("genetic", {"elites": 10, "immigrants": 10}, "immigrants=10"),
        ("genetic", {"parents": 0}, "parents=0"),
        ("genetic", {"mutation_rate": 2}, "mutation_rate=2"),
        ("genetic", {"crossover_rate": -1}, "crossover_rate=-1"),
        ("genetic", {"selection": "roulette"}, "truncation, tournament"),
        ("random", {"tries": 0}, "tries=0"),
        ("regularised", {"population": 50, "children": 7}, "multiple of children=7"),
        ("nsga2", {"objectives": 0}, "objectives=0"),
        ("reinforce", {"learning_rate": 0}, "learning_rate=0"),
        ("reinforce", {"baseline_decay": 1}, "baseline_decay=1"),
        ("reinforce", {"entropy": -1}, "entropy=-1"),
        ("mdenas", {"step": 2}, "step=2"),
        ("asng", {"step": 0}, "step=0"),
        ("asng", {"alpha": 0}, "alpha=0"),
        ("coevolution", {"species": 9}, "species=9"),
        ("coevolution", {"population": 20, "collaborators": 3}, "multiple of collaborators=3"),
        ("coevolution", {"elites": 10}, "elites=10"),
        ("staged", {"stages": 9}, "stages=9"),
        ("staged", {"rounds": 0}, "rounds=0"),
        ("staged", {"beam": 0}, "beam=0"),
        ("staged", {"inner": "nsga2"}, "random, genetic, reinforce, mdenas, asng"),
        ("islands", {"population": 20, "islands": 7}, "islands=7 is out of range; allowed: 1 to 6"),
        ("islands", {"population": 20, "islands": 3}, "population=20 is not a multiple of islands=3"),
        ("islands", {"population": 2}, "population=2 is out of range; allowed: 3"),
        ("islands", {"population": 1, "inner": "regularised"}, "population=1 is out of range; allowed: 3"),
        ("islands", {"migrate_every": 0}, "migrate_every=0"),
        ("islands", {"migrants": 3}, "migrants=3 is out of range; allowed: 0 to 2"),
        ("islands", {"inner": "nsga2"}, "genetic, regularised"),
    ],
)
def test_bad_options_are_one_line(name, options, word):
    with pytest.raises(ValueError, match=word) as error:
        make_strategy(name, SPACE, **options)
    assert "\n" not in str(error.value)


def test_too_few_objectives_are_refused():
    strategy = make_strategy("nsga2", SPACE, population=4)
    state = strategy.init(jax.random.key(0))
    with pytest.raises(ValueError, match="M at least 2"):
        strategy.tell(state, state.population, jnp.zeros((4, 1)))
