"""Multinomial distribution learning (MdeNAS; Zheng et al. 2019, 1905.07529)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.categorical import Rule, categorical
from atnas_jax.search.checks import check_range
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, choice_mask
from atnas_jax.types import Array, Strategy


class MdenasMemory(NamedTuple):
    """The distribution and the records of each choice."""

    probabilities: Array  # float32 [E,O]
    epochs: Array  # float32 [E,O], H^e: how often each choice was told
    accuracy: Array  # float32 [E,O], H^a: the latest fitness with it, or the mean of all; -inf until told


def mdenas(
    space: SearchSpace,
    *,
    population: int = 10,
    step: float = 0.01,
    mean: bool = False,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return MdeNAS; see `mdenas_rule`, also for why its mode is not to be trusted under noise.

    Args:
        space: the space to search.
        population: P, genotypes per ask, learned from one after the other in their order.
        step: a, probability that one comparison moves.
        mean: compare the mean of all fitness told with a choice, in place of the latest.
        feasible, tries: see `categorical`.

    Raises:
        ValueError: an option out of range.
    """
    return categorical(space, mdenas_rule(space, step, mean), population=population, feasible=feasible, tries=tries)


def mdenas_rule(space: SearchSpace, step: float, mean: bool) -> Rule:
    """Return the rule of MdeNAS (section 3.3): a choice that is told less often and does better takes probability.

    For each genotype told, H^e += 1 and H^a = fitness at its choices; then in each slot, for all pairs of choices:
    H^e_i <= H^e_j and H^a_i > H^a_j moves `step` from p_j to p_i. What p_j no longer has is not moved: its winners
    share what is left, so mass is conserved.

    Warning: with several slots, the rule as published does not converge to the best choices. A choice that is told
    more often can only lose the comparisons that it does not win, and the other slots act as noise on the latest
    fitness: on a separable table of 6 slots by 5 choices without any noise, little more than half of the slots end
    right, with noise hardly more than chance. `mean=True` repairs most of it. Take the best told, not the mode.
    """
    check_range("step", step, 1e-9, 1)
    real = jnp.asarray(choice_mask(space))

    def init() -> MdenasMemory:
        uniform = real / real.sum(-1, keepdims=True)
        return MdenasMemory(
            uniform.astype(jnp.float32), jnp.zeros(real.shape, jnp.float32), jnp.full(real.shape, -jnp.inf, jnp.float32)
        )

    def one(memory: MdenasMemory, told: tuple[Array, Array]) -> tuple[MdenasMemory, None]:
        genotype, fitness = told
        chosen = (jnp.arange(real.shape[1]) == genotype[:, None]) & jnp.isfinite(fitness)
        epochs = memory.epochs + chosen
        known = jnp.where(memory.epochs > 0, memory.accuracy, fitness)
        latest = known + (fitness - known) / jnp.maximum(epochs, 1) if mean else fitness
        accuracy = jnp.where(chosen, latest, memory.accuracy)
        moved = moves(memory.probabilities, epochs, accuracy, step)
        moved = jnp.where(jnp.isfinite(fitness), moved, 0.0)
        return MdenasMemory(jnp.maximum(memory.probabilities + moved, 0), epochs, accuracy), None  # rounding

    def update(memory: MdenasMemory, genotypes: Array, fitness: Array) -> MdenasMemory:
        return jax.lax.scan(one, memory, (genotypes, fitness))[0]

    return Rule(init, lambda memory: jnp.log(memory.probabilities), update)


def moves(probabilities: Array, epochs: Array, accuracy: Array, step: float) -> Array:
    """Return float32 [E,O] of row sums 0: what all comparisons together add to the probabilities.

    Args:
        probabilities: float32 [E,O].
        epochs: float32 [E,O], H^e.
        accuracy: float32 [E,O], H^a; -inf never wins.
        step: moved per comparison.
    """
    wins = (epochs[:, :, None] <= epochs[:, None]) & (accuracy[:, :, None] > accuracy[:, None])  # [E,winner,loser]
    owed = step * wins.sum(1)
    paid = jnp.minimum(owed, probabilities)
    share = jnp.where(owed > 0, paid / jnp.where(owed > 0, owed, 1.0), 0.0)
    return step * (wins * share[:, None]).sum(2) - paid
