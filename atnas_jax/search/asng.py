"""Adaptive stochastic natural gradient on categoricals (ASNG; Akimoto et al. 2019, 1905.08537)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.search.categorical import Rule, categorical
from atnas_jax.search.checks import check_range
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, choice_mask
from atnas_jax.types import Array, Strategy


class AsngMemory(NamedTuple):
    """The distribution and the evidence that its steps agree."""

    probabilities: Array  # float32 [E,O], theta
    path: Array  # float32 [E,O], s: decayed sum of unit steps in the metric of Fisher
    expected: Array  # float32 [], gamma: what |s|^2 would be of random steps
    trust: Array  # float32 [], Delta: the step size is delta / Delta


def asng(
    space: SearchSpace,
    *,
    population: int = 10,
    step: float = 1.0,
    alpha: float = 1.5,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return ASNG; see `asng_rule`.

    Args:
        space: the space to search.
        population: P, genotypes per ask; the paper takes 2.
        step: delta, the first step's length in the metric of Fisher.
        alpha: the signal to noise that keeps the step size; larger is more daring.
        feasible, tries: see `categorical`.

    Raises:
        ValueError: an option out of range.
    """
    return categorical(space, asng_rule(space, step, alpha), population=population, feasible=feasible, tries=tries)


def asng_rule(space: SearchSpace, step: float, alpha: float) -> Rule:
    """Return the rule of ASNG: steps of equal length in the metric of Fisher, longer while they agree (Algorithm 1).

        G = mean_i u_i (onehot(g_i) - theta)            natural gradient; u: 1 for the best quarter, -1 for the worst
        theta += d G / |G|,  |G|^2 = sum G^2 / theta    d = delta / Delta
        s <- (1-b) s + sqrt(b(2-b)) (G / sqrt(theta)) / |G|,   gamma <- (1-b)^2 gamma + b(2-b),   b = d / sqrt(n)
        Delta <- Delta exp(b (gamma - |s|^2 / alpha))

    n is the number of free parameters. Every probability is then kept at 1 / (E'(m-1)) or more, for E' slots with a
    choice and m choices, at the others' cost; at half of uniform or more where that is less, since in a few slots the
    former would leave no choice. Steps are written in the coordinates 2 sqrt(theta), in which Fisher's metric is the
    plain one. Only ranks count, so any monotone change of fitness changes nothing.
    """
    check_range("step", step, 1e-9, None)
    check_range("alpha", alpha, 1e-9, None)
    real, cards = choice_mask(space), np.asarray(space.cards)
    free, slots = max(int((cards - 1).sum()), 1), max(int((cards > 1).sum()), 1)
    lowest = np.where(cards > 1, np.minimum(1 / (slots * np.maximum(cards - 1, 1)), 0.5 / cards), 0.0)
    least = jnp.asarray(real * lowest[:, None], jnp.float32)

    def init() -> AsngMemory:
        uniform = jnp.asarray(real / cards[:, None], jnp.float32)
        return AsngMemory(uniform, jnp.zeros(real.shape, jnp.float32), jnp.float32(0), jnp.float32(1))

    def update(memory: AsngMemory, genotypes: Array, fitness: Array) -> AsngMemory:
        theta, length = memory.probabilities, step / memory.trust
        weights = utilities(fitness)
        chosen = jax.nn.one_hot(genotypes, theta.shape[1], dtype=jnp.float32)
        slope = (weights[:, None, None] * (chosen - theta)).mean(0)
        root = jnp.sqrt(jnp.where(theta > 0, theta, 1.0))
        size = jnp.sqrt(((slope / root) ** 2).sum())
        moved = size > 1e-8
        unit = jnp.where(moved, 1 / jnp.where(moved, size, 1.0), 0.0) * slope
        decay = jnp.minimum(length / math.sqrt(free), 1.0)
        path = (1 - decay) * memory.path + jnp.sqrt(decay * (2 - decay)) * unit / root
        expected = (1 - decay) ** 2 * memory.expected + decay * (2 - decay)
        trust = memory.trust * jnp.exp(decay * (expected - (path**2).sum() / alpha))
        told = AsngMemory(at_least(theta + length * unit, least), path, expected, trust)
        return jax.tree.map(lambda new, old: jnp.where(moved, new, old), told, memory)

    return Rule(init, lambda memory: jnp.log(memory.probabilities), update)


def utilities(fitness: Array) -> Array:
    """Return float32 [P] of sum 0: 1 for the best quarter (rounded up) of `fitness` [P], -1 for the worst, 0 between.

    Equal fitness shares its utilities, so that neither the order of rows nor a table of ties moves anything.
    """
    quarter = -(-fitness.shape[0] // 4)
    places = jnp.arange(fitness.shape[0])
    by_place = jnp.where(places < quarter, -1.0, 0.0) + jnp.where(places >= fitness.shape[0] - quarter, 1.0, 0.0)
    order = jnp.sort(fitness)
    low, high = (jnp.searchsorted(order, fitness, side=side) for side in ("left", "right"))
    sums = jnp.concatenate([jnp.zeros(1), jnp.cumsum(by_place)])
    return (sums[high] - sums[low]) / (high - low)


def at_least(theta: Array, least: Array) -> Array:
    """Return theta [E,O], rows of sum 1, raised to `least` [E,O]; what lies above it is scaled down to keep the sum."""
    above = jnp.maximum(theta - least, 0.0)
    rest = 1 - least.sum(-1, keepdims=True)
    total = above.sum(-1, keepdims=True)
    return least + rest * above / jnp.where(total > 0, total, 1.0)
