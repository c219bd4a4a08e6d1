"""A meta-network and the labelled images of one novel task in; a classifier of its classes out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.devices import AXIS, make_mesh
from atnas_jax.job.compiled import compiled, stopwatch
from atnas_jax.job.config import check_config
from atnas_jax.job.costs import make_cost, share_of_limits
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.trial import trial_to_dict
from atnas_jax.novel.adapted_network import AdaptedNetwork, as_float, as_images, make_predictor
from atnas_jax.novel.expected import describe, make_estimate
from atnas_jax.novel.meta_network import MetaNetwork
from atnas_jax.novel.support import Choice, Task, make_support_search
from atnas_jax.rng import stream
from atnas_jax.search.genetic import genetic
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import to_text

LIMITS = ("max_params", "max_macs", "max_latency_ms")
FEW_IMAGES = 100  # of a support: a search on as many takes less time than the compiler saves by optimising little
Fit = Callable[..., AdaptedNetwork]


class Programs(NamedTuple):
    """What is compiled for tasks of the same numbers of images a class.

    repair(population int32 [n,E]) -> the same within the limits, where there are any
    first, step, decide, choose: of `SupportSearch`
    learn(params, genotype, support_x, support_y) -> adapted weights
    estimate(params, genotype, support_x, support_y, key) -> bool [n], see `make_estimate`; `how` names it
    cost(genotype) -> int32 [2], parameters and multiply-adds
    fits(genotypes [n,E]) -> bool [n], whether they keep the limits
    """

    repair: Callable
    first: Callable
    step: Callable
    decide: Callable
    choose: Callable
    learn: Callable
    estimate: Callable
    how: str
    cost: Callable
    fits: Callable


def adapt_to(
    network: MetaNetwork, images: np.ndarray, labels: Sequence[Any] | np.ndarray, *, seed: int = 0, **options: Any
) -> AdaptedNetwork:
    """Adapt architecture and weights to one support set; for many tasks see `make_fit`.

    Args:
        network: from `load_meta_network`.
        images: uint8 [S,H,W] or [S,H,W,C] of any size, C 1 or 3.
        labels: [S], text or numbers, at least two different ones; classes may have unequal counts.
        seed: of the search.
        options: generations, population, seconds, max_params, max_macs, max_latency_ms, estimate; see `make_fit`.

    Raises:
        ValueError: one line that says what does not fit.
    """
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    return make_fit(network, once=True, **options)(as_images(images, network.image_shape), codes, classes, seed=seed)


def make_fit(
    network: MetaNetwork,
    *,
    generations: int | None = None,
    population: int | None = None,
    seconds: float | None = None,
    max_params: int | None = None,
    max_macs: int | None = None,
    max_latency_ms: float | None = None,
    estimate: bool = True,
    once: bool = False,
    clock: dict[str, float] | None = None,
) -> Fit:
    """Return fit(images, labels, classes=None, *, seed=0) -> AdaptedNetwork, for many tasks.

    It compiles for the first task of each set of counts of images a class, and never again for such tasks. `fit` takes
    uint8 [S,H,W,C] in the network's shape, integers [S] in 0..N-1 and the classes [N] that they stand for. Where the
    network's own trial of the search has shown no gain, see `Trial`, it keeps the shared best architecture, unless
    generations, population, seconds or a limit is given.

    Args:
        network: from `load_meta_network`.
        generations: rounds of the search; None is the config's.
        population: genotypes a round; None is the config's.
        seconds: of searching, instead of generations; None is the config's, 0 is `generations`.
        max_params, max_macs, max_latency_ms: limits of the chosen architecture for the task's own number of classes;
            None is the config's, of the protocol's classes.
        estimate: whether to estimate the accuracy to expect, see `expected.py`.
        once: it is for one task, on which less compiling is worth more than a faster search.
        clock: gets the seconds of compiling, see `compiled`.

    Raises:
        ValueError: one line on what is out of range, or a limit of latency without a table of it.
    """
    limits = dict(zip(LIMITS, (max_params, max_macs, max_latency_ms), strict=True))
    given = {"adapt.generations": generations, "adapt.population": population, "adapt.seconds": seconds}
    given |= {f"search.{name}": limit for name, limit in limits.items()}
    network = network._replace(config=_changed(network, given))
    limited, clock, known = any(limits.values()), clock or {"compile_s": 0.0}, {}
    # Who asks for a search gets one, by a setting of the run too that no trial could keep.
    asked = network.config.adapt.seconds or any(value is not None for value in given.values())
    trial = None if asked else network.trial
    predictor = make_predictor(network.config, network.space, network.image_shape, clock)

    def fit(images, labels, classes=None, *, seed: int = 0) -> AdaptedNetwork:
        labels = np.asarray(labels)
        check_labels(labels, len(images))
        _check_ways(network.config, ways := int(labels.max()) + 1)
        order = np.argsort(labels, kind="stable")
        images, labels = np.asarray(images)[order], labels[order].astype(np.int32)
        counts = tuple(np.bincount(labels).tolist())
        if counts not in known:
            known[counts] = _make_programs(network, labels, clock, limited, once)
        programs, before, seconds = known[counts], clock["compile_s"], stopwatch(clock)
        x, y, key = jnp.asarray(as_float(images, network.normalise)), jnp.asarray(labels), stream(seed, "adapt")
        warm = programs.repair(network.population[: network.config.adapt.population])
        _check_limits(limits, programs, warm)
        task = Task(key, network.params, x, y, warm[0])
        keeps = trial is not None and trial.keeps(min(counts))
        choice, rounds = _kept(task) if keeps else _search(programs, task, warm, network.config.adapt, seconds)
        chosen, genotype = seconds(), np.asarray(choice.genotype)
        _check_limits(limits, programs, genotype[None])
        weights = jax.block_until_ready(programs.learn(network.params, genotype, x, y))
        learned, cost = seconds(), np.asarray(programs.cost(genotype))
        about = _about(network, programs, task, choice, cost, estimate) | {
            "generations": rounds,
            "evaluations": rounds * network.config.adapt.population,
            "architecture_s": round(chosen, 3),
            "weights_s": round(learned - chosen, 3),
            "compile_s": round(clock["compile_s"] - before, 3),
            "kept_by_trial": trial_to_dict(trial) if keeps else None,
        }
        classes = np.arange(ways) if classes is None else np.asarray(classes)
        return AdaptedNetwork(
            weights, genotype, images, labels, classes, network.space, network.image_shape, network.normalise,
            network.config, about, predictor,
        )  # fmt: skip

    return fit


def _about(network, programs, task, choice, cost, estimate) -> dict[str, Any]:
    """Return what adaptation.json says of a choice."""
    gain, error = np.asarray(choice.gain, float)
    expected = None
    if estimate:
        given = (task.params, choice.genotype, task.support_x, task.support_y, stream(task.key, "expected"))
        expected = describe(programs.how, np.asarray(programs.estimate(*given)))
    return {
        "genotype": to_text(network.space, np.asarray(choice.genotype)),
        "params": int(cost[0]),
        "macs": int(cost[1]),
        "support_images": len(task.support_y),
        "found": to_text(network.space, np.asarray(choice.found)),  # before it was held against the shared best
        "found_is_better_by": None
        if not np.isfinite([gain, error]).all()
        else {"nats": float(gain), "standard_error": float(error)},
        "expected": expected,
    }


def check_labels(labels: np.ndarray, images: int) -> None:
    """Raise ValueError unless labels are integers [images] with every one of 0..N-1, N at least 2."""
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"support labels are {labels.dtype} {list(labels.shape)}; need integers [{images}], one an image"
        )
    present = np.unique(labels)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(f"support labels are {present[:8].tolist()}; need every one of 0..N-1 at least once, N >= 2")


def _kept(task: Task) -> tuple[Choice, int]:
    """Return the shared best as a choice, of no generation."""
    return Choice(task.incumbent, task.incumbent, np.full(2, np.nan)), 0


def _search(programs, task, warm, settings, seconds) -> tuple[Choice, int]:
    """Return the choice and the number of generations that it took."""
    if not settings.seconds:
        return jax.block_until_ready(programs.choose(task, warm)), settings.generations
    carry, rounds = programs.first(task, warm), 0
    while rounds == 0 or seconds() < settings.seconds:
        carry = jax.block_until_ready(programs.step(carry, task, jnp.int32(rounds)))
        rounds += 1
    return jax.block_until_ready(programs.decide(carry, task)), rounds


def _make_programs(
    network: MetaNetwork, labels: np.ndarray, clock: dict[str, float], limited: bool, once: bool
) -> Programs:
    """Return the programs for tasks whose support labels, sorted, are `labels`; compiled late, see `compiled`."""
    space, shape, ways = network.space, network.image_shape, int(labels.max()) + 1
    config = network.config.copy_and_resolve_references()
    if limited:
        config.protocol.ways = ways
    learner = evaluation_learner(config, space, shape, ways)
    used, size = share_of_limits(config, space, shape, network.latency), config.adapt.population
    feasible = None if used is None else lambda genotypes: used(genotypes) <= 1
    strategy = genetic(space, population=size, elites=min(2, size - 1), feasible=feasible)
    repair = (lambda genotypes: genotypes) if not limited else cheaper(space, used, 1.0)
    # Limits that the population was not searched under leave little of it, so there it is made cheaper.
    strategy = repaired(strategy, repair) if limited else strategy
    search = make_support_search(config, space, shape, learner, strategy, labels, feasible, AXIS)
    how, estimate = make_estimate(config, space, learner, labels, AXIS)

    def learn(params, genotype, x, y):
        return learner.adapt(params, mask_of(space, genotype), x, y)

    def fits(genotypes):
        return jnp.ones(len(genotypes), bool) if feasible is None else feasible(genotypes)

    quickly = once and not config.adapt.seconds and len(labels) <= FEW_IMAGES
    program = functools.partial(compiled, clock=clock, quickly=quickly)
    everywhere = make_mesh(jax.device_count())
    return Programs(
        repair=program(repair) if limited else repair,
        first=program(search.first, mesh=everywhere),
        step=program(search.step, mesh=everywhere),
        decide=program(search.decide, mesh=everywhere),
        choose=program(search.choose, mesh=everywhere),
        learn=program(learn),
        estimate=program(estimate, mesh=everywhere),
        how=how,
        cost=program(make_cost(config, space, shape, ways)),
        fits=program(fits),
    )


def _changed(network: MetaNetwork, given: dict[str, Any]) -> ConfigDict:
    """Return the config with what was given, checked; None leaves a setting as it is."""
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("search.max_latency_ms") and network.latency is None:
        raise ValueError("max_latency_ms needs a meta-network that was searched with search.latency; this one was not")
    if not given:
        return network.config
    config = network.config.copy_and_resolve_references()
    config.update_from_flattened_dict(given)
    check_config(config)
    return config


def _check_ways(config: ConfigDict, ways: int) -> None:
    if config.learner.head == "matrix" and ways != config.protocol.ways:
        raise ValueError(
            f"the support has {ways} classes; a meta-network with learner.head 'matrix' serves {config.protocol.ways}"
        )


def _check_limits(limits: dict[str, float | None], programs: Programs, population: Any) -> None:
    """Raise ValueError where none of a population that was made to fit keeps the limits that were asked for."""
    if any(limits.values()) and not np.any(programs.fits(population)):
        asked = " and ".join(f"{name} {limit}" for name, limit in limits.items() if limit)
        params, macs = np.asarray(programs.cost(population)).min(0)
        raise ValueError(
            f"{asked} leaves none of the architectures that were tried; the nearest has {params:,} parameters, and one "
            f"has {macs:,} MACs; raise the limit"
        )
