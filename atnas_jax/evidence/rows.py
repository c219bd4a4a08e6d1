"""Which genotypes and weights each row of the meta-test stands for."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.paired import derangement
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.costs import feasibility
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import RunState
from atnas_jax.meta.average import evaluated
from atnas_jax.rng import stream
from atnas_jax.search.variation import random_feasible
from atnas_jax.types import Array, Params


class Plan(NamedTuple):
    """One row: per episode, which genotypes and weights, and in how many inner steps the weights adapt."""

    genotypes: np.ndarray  # int32 [R,episodes,E], averaged over R
    params: Params
    steps: int


def plan(
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    name: str,
    chosen: dict[str, np.ndarray],
    clock: dict[str, float],
) -> Plan:
    """Return which genotypes and weights a row of the table stands for."""
    episodes, steps = config.protocol.episodes, evaluation_steps(config)
    weights = evaluated(state.meta)
    if name in chosen:
        return Plan(chosen[name][None], weights, steps)
    if name == "permuted_architecture":
        return Plan(chosen["adapted"][derangement(episodes)][None], weights, steps)
    if name == "random_architecture":
        rows = random_rows(config, parts, "random architectures", config.meta_test.random_architectures, clock)
        return Plan(np.concatenate([everywhere(config, row) for row in rows]), weights, steps)
    if name == "conv4":
        return Plan(everywhere(config, hand_made(parts.control.space)), evaluated(state.control), steps)
    rows = everywhere(config, state.best)
    params = blind(weights) if name == "no_adaptation" else weights
    return Plan(rows, params, steps if name == "best" else 0)


def same_plan(one: Plan, other: Plan) -> bool:
    """Return whether two rows are of the same genotypes and weights, so that one score serves both."""
    same = one.params is other.params and one.steps == other.steps
    return same and np.array_equal(one.genotypes, other.genotypes)


def everywhere(config: ConfigDict, genotype: Array | np.ndarray) -> np.ndarray:
    """Return int32 [1,episodes,E], the same genotype int32 [E] for every episode."""
    return np.broadcast_to(np.asarray(genotype), (1, config.protocol.episodes, len(genotype)))


def random_rows(config: ConfigDict, parts: Parts, name: str, number: int, clock: dict[str, float]) -> np.ndarray:
    """Return int32 [number,E], random genotypes within the limits, by the key of this name."""
    feasible = feasibility(config, parts.space, parts.image_shape, parts.latency)

    def drawn():
        return random_feasible(stream(config.seed, name), parts.space, number, feasible, 64)

    return np.asarray(compiled(drawn, clock, mesh=parts.mesh, quickly=True)())


def blind(params: Params) -> Params:
    """Return meta-parameters whose head does not see the support: at temperature 0 prototypes weigh nothing."""
    head = params["head"]
    return params | {"head": head | dict.fromkeys({"log_temperature"} & head.keys(), jnp.float32(-jnp.inf))}
