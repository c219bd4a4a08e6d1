"""Search by the gradient of the mask: logits per slot, moved by Adam through a relaxation of the mask.

One strategy under four names, see `relaxations.py`: DARTS (Liu et al. 2019, first order), MetaNAS and T-NAS, FBNet,
GDAS, ProxylessNAS. Weights learn on meta_train under relaxed masks and logits on meta_valid, in turns.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.search import categorical
from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.relaxations import Relaxation, binary_gates, gumbel, gumbel_hard, softmax
from atnas_jax.search.samplers import Sampler
from atnas_jax.search.scalarise import Loss
from atnas_jax.search.variation import Feasible, retry
from atnas_jax.space.slots import SearchSpace, choice_mask, genotype_of, mask_of
from atnas_jax.types import Array, PyTree, Strategy

MODES = ("full", "two")
B1 = {"softmax": 0.5, "gumbel": 0.9, "gumbel_hard": 0.5, "binary_gates": 0.0}  # DARTS, FBNet, GDAS, ProxylessNAS
TEMPERATURES = {"softmax": (1.0, 0.05), "gumbel": (5.0, 0.087), "gumbel_hard": (5.0, 0.087), "binary_gates": (1.0, 1.0)}


class GradientState(NamedTuple):
    """Logits and their optimiser; `population` and `fitness` are what samplers and checkpoints know of any search."""

    logits: Array  # float32 [E,O], -inf where a slot has no such choice
    opt_state: PyTree  # of Adam
    step: Array  # int32 [], gradients told
    population: Array  # int32 [P,E], what was last told, or the start
    fitness: Array  # float32 [P,1], -inf until told


def gradient(
    space: SearchSpace,
    relaxation: str,
    *,
    population: int = 20,
    steps: int = 1000,
    learning_rate: float = 0.01,
    b1: float | None = None,
    temperature: float | None = None,
    temperature_min: float | None = None,
    prune: float = 0.0,
    mode: str = "full",
    objective: Loss | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return a strategy of the gradient family; it learns from `tell_grad` alone, and `tell` only keeps a population.

    `ask` draws from the policy softmax(logits), the likeliest genotype first. A warm start of n genotypes sets each
    slot's policy by Laplace's rule, (1 + times chosen) / (choices + n); without one all choices are equal.

    Args:
        space: the space to search.
        relaxation: "softmax", "gumbel", "gumbel_hard" or "binary_gates".
        population: P, genotypes per ask.
        steps: gradients until the temperature is at its last value.
        learning_rate: of Adam. Published for runs of 10^4 steps and more: 3e-4 (DARTS), 1e-3 (ProxylessNAS).
        b1: of Adam; None: that of the publication, `B1`. With 0 what has no gradient does not move.
        temperature: first one, None: `TEMPERATURES`; "binary_gates" has none.
        temperature_min: last one, None: `TEMPERATURES`.
        prune: of "softmax": choices below this share of a slot are dropped from the mask.
        mode: of "binary_gates": "full" or "two".
        objective: the loss with its cost, see `scalarise.loss_with_cost`; None: the loss.
        feasible: int32 [n,E] -> bool [n]; infeasible draws are drawn again, and are never the best if one is feasible.
        tries: draws per genotype, also spent on copies.

    Raises:
        ValueError: an option out of range, or one that this relaxation does not have.
    """
    check_common(population, tries)
    chosen = _relaxation(relaxation, prune, mode, temperature, temperature_min)
    default = TEMPERATURES[relaxation]
    first, last = (d if t is None else t for d, t in zip(default, (temperature, temperature_min), strict=True))
    b1 = B1[relaxation] if b1 is None else b1
    for name, value, low, high in (
        ("steps", steps, 1, None), ("learning_rate", learning_rate, 0, None), ("b1", b1, 0, 1 - 1e-9),
        ("temperature_min", last, 1e-6, None), ("temperature", first, last, None), ("prune", prune, 0, 1),
    ):  # fmt: skip
        check_range(name, value, low, high)
    optimiser = optax.adam(learning_rate, b1=b1)
    real = jnp.asarray(choice_mask(space))

    def init(key: Array, genotypes: Array | None = None) -> GradientState:
        warm = jnp.zeros((0, space.num_slots), jnp.int32) if genotypes is None else jnp.asarray(genotypes, jnp.int32)
        if warm.ndim != 2 or warm.shape[1] != space.num_slots:
            raise ValueError(f"warm start has shape {warm.shape}; allowed: [n,{space.num_slots}]")
        logits = jnp.where(real, jnp.log1p(mask_of(space, warm).sum(0)), -jnp.inf)
        rows = _draw(key, space, logits, population, feasible, tries)
        fitness = jnp.full((population, 1), -jnp.inf, jnp.float32)
        return GradientState(logits, optimiser.init(jnp.zeros_like(logits)), jnp.int32(0), rows, fitness)

    def temperature_at(step: Array) -> Array:
        return chosen.temperature(first, last, jnp.clip(step / max(steps - 1, 1), 0.0, 1.0))

    def relax(key: Array, state: GradientState) -> Array:
        return chosen.harden(key, chosen.surrogate(key, state.logits, temperature_at(state.step)))

    def tell_grad(key: Array, state: GradientState, loss: Array, dloss_dmask: Array) -> GradientState:
        moves = chosen.moves(key, state.logits)

        def whole(logits):
            logits = jnp.where(moves, logits, state.logits)  # a constant -inf has no gradient
            pulled = jnp.vdot(dloss_dmask, chosen.surrogate(key, logits, temperature_at(state.step)))
            now = loss + pulled - jax.lax.stop_gradient(pulled)
            return now if objective is None else objective(jax.nn.softmax(logits), now)

        slopes = jnp.where(moves, jax.grad(whole)(state.logits), 0.0)
        updates, opt_state = optimiser.update(slopes, state.opt_state)
        logits = jnp.where(moves, state.logits + updates, state.logits)
        if chosen.keeps_mass:
            logits += jnp.where(moves, _mass(state.logits, moves) - _mass(logits, moves), 0.0)
        return state._replace(logits=logits, opt_state=opt_state, step=state.step + 1)

    def ask(key: Array, state: GradientState) -> Array:
        return _draw(key, space, state.logits, population, feasible, tries)

    def tell(state: GradientState, genotypes: Array, fitness: Array) -> GradientState:
        fitness = fitness[:, :1].astype(jnp.float32)
        return state._replace(population=genotypes, fitness=jnp.where(jnp.isnan(fitness), -jnp.inf, fitness))

    def best(state: GradientState) -> Array:
        likeliest = genotype_of(space, state.logits)
        if feasible is None:
            return likeliest
        rows = jnp.concatenate([likeliest[None], state.population])
        likely = jnp.where(feasible(rows), log_probability(state.logits, rows), -jnp.inf)
        return rows[jnp.argmax(likely)]

    return Strategy(init, ask, tell, best, relax, tell_grad)


def log_probability(logits: Array, genotypes: Array) -> Array:
    """Return float32 [n], the log-probability of genotypes int32 [n,E] under the policy softmax(logits [E,O])."""
    return categorical.log_probability(jax.nn.log_softmax(logits), genotypes)


def training_masks(
    key: Array, space: SearchSpace, n: int, relax: Callable[[Array], Array], share: float | Array, base: Sampler
) -> Array:
    """Return masks float32 [n,E,O], each with probability `share` relaxed anew, else of a row of `base`.

    Args:
        relax: key -> float32 [E,O].
        share: probability, may be traced.
        base: sampler of the other rows.
    """
    key_base, key_row, key_relax = jax.random.split(key, 3)
    relaxed = jax.vmap(relax)(jax.random.split(key_relax, n))
    return jnp.where(jax.random.bernoulli(key_row, share, (n, 1, 1)), relaxed, mask_of(space, base(key_base, space, n)))


def _relaxation(name: str, prune: float, mode: str, *temperatures: float | None) -> Relaxation:
    if name != "softmax" and prune:
        raise ValueError(f"prune={prune} is an option of 'softmax' alone, not of {name!r}")
    if mode not in MODES or (name != "binary_gates" and mode != "full"):
        raise ValueError(f"mode={mode!r} of {name!r}; allowed: 'full', and 'two' of 'binary_gates'")
    if name == "binary_gates" and any(t is not None for t in temperatures):
        raise ValueError("'binary_gates' have no temperature; leave temperature and temperature_min out")
    return {
        "softmax": lambda: softmax(prune),
        "gumbel": gumbel,
        "gumbel_hard": gumbel_hard,
        "binary_gates": lambda: binary_gates(mode),
    }[name]()


def _draw(key, space, logits, population, feasible, tries):
    """Return int32 [P,E] by the policy, the likeliest genotype first, then without copies where the tries allow."""
    top = genotype_of(space, logits)[None]

    rest = retry(key, lambda k: categorical.draw(k, logits, population - 1), feasible, tries, top)
    return jnp.concatenate([top, rest])


def _mass(logits: Array, moves: Array) -> Array:
    """Return float32 [E,1], log sum exp of the logits that move; 0 in a slot where none does."""
    return jnp.where(moves.any(-1, keepdims=True), jax.nn.logsumexp(logits, -1, where=moves, keepdims=True), 0.0)
