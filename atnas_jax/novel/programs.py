"""What is compiled for novel tasks: the search on a support, learning, and the accuracy to expect."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.devices import AXIS, make_mesh
from atnas_jax.job.compiled import compiled
from atnas_jax.job.costs import share_of_limits
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.novel.expected import COPIES, make_estimate
from atnas_jax.novel.meta_network import MetaNetwork
from atnas_jax.novel.padding import Kind
from atnas_jax.novel.support import make_support_search
from atnas_jax.search.genetic import genetic
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.space.slots import mask_of


class Programs(NamedTuple):
    """The programs of tasks of one `Kind`, each compiled at its first call for each set of sizes.

    repair(population int32 [n,E]) -> the same within the limits, where there are any
    first, step, decide, choose: of `SupportSearch`
    learn(params, genotype, support_x, support_y) -> adapted weights
    estimate: see `make_estimate`
    fits(genotypes [n,E]) -> bool [n], whether they keep the limits
    """

    repair: Callable
    first: Callable
    step: Callable
    decide: Callable
    choose: Callable
    learn: Callable
    estimate: Callable
    fits: Callable


def make_programs(
    network: MetaNetwork, kind: Kind, classes: int | None, quickly: bool, clock: dict[str, float]
) -> Programs:
    """Return the programs of tasks of a kind.

    Args:
        network: a meta-network.
        kind: of the tasks.
        classes: where the limits are those of a task, its number of classes; None: they are the run's.
        quickly: see `options_for`.
        clock: see `compiled`.
    """
    space, shape, (ways, how, padded) = network.space, network.image_shape, kind
    config = network.config.copy_and_resolve_references()
    if classes is not None:
        config.protocol.ways = classes
    learner = evaluation_learner(config, space, shape, ways, padded=padded)
    used, size = share_of_limits(config, space, shape, network.latency), config.adapt.population
    feasible = None if used is None else lambda genotypes: used(genotypes) <= 1
    strategy = genetic(space, population=size, elites=min(2, size - 1), feasible=feasible)
    repair = (lambda genotypes: genotypes) if classes is None else cheaper(space, used, 1.0)
    # Limits that the population was not searched under leave little of it, so there it is made cheaper.
    strategy = strategy if classes is None else repaired(strategy, repair)
    moved = how == COPIES
    search = make_support_search(config, space, shape, learner, strategy, ways, moved, feasible, AXIS)

    def learn(params, genotype, x, y):
        return learner.adapt(params, mask_of(space, genotype), x, y)

    def fits(genotypes):
        return jnp.ones(len(genotypes), bool) if feasible is None else feasible(genotypes)

    program = functools.partial(compiled, clock=clock, quickly=quickly)
    everywhere = make_mesh(jax.device_count())
    return Programs(
        repair=repair if classes is None else program(repair),
        first=program(search.first, mesh=everywhere),
        step=program(search.step, mesh=everywhere),
        decide=program(search.decide, mesh=everywhere),
        choose=program(search.choose, mesh=everywhere),
        learn=program(learn),
        estimate=program(make_estimate(space, learner, moved, AXIS), mesh=everywhere),
        fits=program(fits),
    )
