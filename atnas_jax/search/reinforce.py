"""REINFORCE on a factorised policy: the controller of ENAS (Pham et al. 2018, 1802.03268) without its LSTM."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.search.categorical import Rule, categorical, log_probability
from atnas_jax.search.checks import check_range
from atnas_jax.search.expectation import expectation
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, choice_mask
from atnas_jax.types import Array, PyTree, Strategy


class ReinforceMemory(NamedTuple):
    """Logits, their optimiser, and the moving baseline."""

    logits: Array  # float32 [E,O]
    optimiser: PyTree
    baseline: Array  # float32 [], moving mean of fitness
    spread: Array  # float32 [], moving mean of squared deviations from the baseline
    weight: Array  # float32 [], how much both means have seen, 0..1


def reinforce(
    space: SearchSpace,
    *,
    population: int = 10,
    learning_rate: float = 0.2,
    baseline_decay: float = 0.9,
    entropy: float = 0.01,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return REINFORCE with a moving baseline; see `reinforce_rule`.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        learning_rate: of Adam on the logits.
        baseline_decay: of the moving mean and spread, per ask, in [0, 1).
        entropy: weight of the policy's entropy.
        feasible, tries: see `categorical`.

    Raises:
        ValueError: an option out of range.
    """
    rule = reinforce_rule(space, learning_rate, baseline_decay, entropy)
    return categorical(space, rule, population=population, feasible=feasible, tries=tries)


def reinforce_rule(space: SearchSpace, learning_rate: float, baseline_decay: float, entropy: float) -> Rule:
    """Return the rule of REINFORCE (Williams 1992).

    Adam ascends mean_i a_i log p(g_i) + entropy * H(p), where a_i = (f_i - b) / s, b and s^2 are moving means of f and
    of (f - b)^2. Dividing by s, which ENAS does not, makes one learning rate serve percent, shares and losses alike.
    ENAS moves b at 0.99 a sample, takes 0.0035 and thousands of samples; the defaults here are for hundreds.
    """
    check_range("learning_rate", learning_rate, 1e-9, None)
    check_range("baseline_decay", baseline_decay, 0, 1 - 1e-9)
    check_range("entropy", entropy, 0, None)
    real, optimiser = jnp.asarray(choice_mask(space)), optax.adam(learning_rate)

    def init() -> ReinforceMemory:
        logits = jnp.zeros(real.shape, jnp.float32)
        return ReinforceMemory(logits, optimiser.init(logits), jnp.float32(0), jnp.float32(0), jnp.float32(0))

    def log_policy(logits: Array) -> Array:
        return jax.nn.log_softmax(jnp.where(real, logits, -jnp.inf), axis=-1)

    def loss(logits: Array, genotypes: Array, advantages: Array) -> Array:
        policy = log_policy(logits)
        finite = jnp.where(real, policy, 0.0)
        information = -(jnp.where(real, jnp.exp(policy), 0.0) * finite).sum()
        return -expectation(advantages, log_probability(policy, genotypes)) - entropy * information

    def update(memory: ReinforceMemory, genotypes: Array, fitness: Array) -> ReinforceMemory:
        known = jnp.isfinite(fitness)
        count, values = jnp.maximum(known.sum(), 1), jnp.where(known, fitness, 0.0)
        blend = (1 - baseline_decay) / (1 - baseline_decay + baseline_decay * memory.weight)  # the first mean is whole
        baseline = memory.baseline + blend * (values.sum() / count - memory.baseline)
        off = jnp.where(known, values - baseline, 0.0)
        spread = memory.spread + blend * ((off**2).sum() / count - memory.spread)
        advantages = off * jax.lax.rsqrt(jnp.where(spread > 0, spread, 1.0))
        slope = jax.grad(loss)(memory.logits, genotypes, advantages)
        steps, state = optimiser.update(slope, memory.optimiser)
        weight = 1 - baseline_decay * (1 - memory.weight)
        told = ReinforceMemory(optax.apply_updates(memory.logits, steps), state, baseline, spread, weight)
        return jax.tree.map(lambda new, old: jnp.where(known.any(), new, old), told, memory)

    return Rule(init, lambda memory: log_policy(memory.logits), update)
