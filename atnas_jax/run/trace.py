"""A strategy that remembers what was best after each generation."""

from typing import NamedTuple

import jax.numpy as jnp

from atnas_jax.types import Array, PyTree, Strategy


class Trace(NamedTuple):
    """The state of a strategy, and its best genotype so far."""

    state: PyTree
    best_fitness: Array  # float32 []
    best: Array  # int32 [G,E], after generation 1..G; before that, the best of the start
    told: Array  # int32 [], generations


def traced_strategy(strategy: Strategy, generations: int) -> Strategy:
    """Return a strategy that asks the same, whose `best` is int32 [G,E], the best after each of G generations."""

    def init(key, genotypes=None):
        state = strategy.init(key, genotypes)
        first = strategy.best(state)
        return Trace(state, state.best_fitness, jnp.tile(first[None], (generations, 1)), jnp.int32(0))

    def tell(trace, genotypes, fitness):
        state = strategy.tell(trace.state, genotypes, fitness)
        best = trace.best.at[trace.told].set(strategy.best(state))
        return Trace(state, state.best_fitness, best, trace.told + 1)

    return Strategy(init, lambda key, trace: strategy.ask(key, trace.state), tell, lambda trace: trace.best)
