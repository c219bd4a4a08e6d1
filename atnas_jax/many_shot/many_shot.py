"""A search and a training on a whole data set, from the weights of a meta-network or from random ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.job.compiled import compiled, stopwatch
from atnas_jax.job.costs import feasibility, make_cost
from atnas_jax.many_shot.supervised import Parted, Supervised, make_supervised
from atnas_jax.meta.adapt import first_body
from atnas_jax.nets.grow import grow, grown_space
from atnas_jax.nets.subnet import Subnet, make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.novel.meta_network import MetaNetwork
from atnas_jax.rng import stream
from atnas_jax.search.genetic import genetic
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.space.text import to_text
from atnas_jax.types import Array, Model, Params


class Start(NamedTuple):
    """Weights that a candidate, and the network that is chosen, start from."""

    body: Params  # of the supernet
    log_temperature: Array  # of the prototypes that the head starts as
    warm: Array | None  # genotypes int32 [n,E] that the search starts from; None: random ones


class Budget(NamedTuple):
    """What a search may spend."""

    generations: int
    population: int
    steps: int  # of training, a candidate


class Trained(NamedTuple):
    """A network that is done."""

    space: SearchSpace  # the grown one
    genotype: np.ndarray  # in that space
    params: Params  # {"body", "head": {"w", "b"}} of the plain subnet
    row: dict[str, Any]


class Bench(NamedTuple):
    """What the methods share."""

    network: MetaNetwork
    data: Parted
    ways: int
    seed: int
    grown: tuple[int, int]  # width, depth, see `nets.grow`
    model: Model  # the supernet
    probe: Callable  # (body, log_temperature, genotype, data, steps, seed) -> accuracy, loss on valid
    clock: dict[str, float]
    note: Callable[[str], None]


def make_bench(
    network: MetaNetwork,
    data: Parted,
    ways: int,
    seed: int,
    grown: tuple[int, int],
    note: Callable[[str], None],
) -> Bench:
    """Return what the methods share; fields as of `Bench`."""
    net, clock = network.config.net, {"compile_s": 0.0}
    # A batch of training images, or the reference, plays the support.
    normalisation = "support" if net.normalisation == "batch_transductive" else net.normalisation
    model = make_supernet(
        network.space, network.image_shape, normalisation=normalisation, readout=net.readout,
        execution=net.execution, conv=net.conv, dtype=net.dtype,
    )  # fmt: skip
    of_supernet = make_supervised(model, ways, network.config.specialise)

    def probe(body, log_temperature, genotype, data, steps, seed):
        mask = mask_of(network.space, genotype)
        training = of_supernet.start(body, log_temperature, mask, data)
        training = of_supernet.advance(training, mask, data, steps, steps, seed)
        return of_supernet.score(training.params, mask, data, data.valid)

    return Bench(network, data, ways, seed, grown, model, compiled(probe, clock), clock, note)


def meta_start(bench: Bench) -> Start:
    """Return the meta-weights and the population found across tasks."""
    network = bench.network
    learned = network.params["head"].get("log_temperature")
    temperature = _temperature(bench.model) if learned is None else learned
    return Start(first_body(network.params, network.config.learner.step_norms), temperature, network.population)


def random_start(bench: Bench, number: int = 0) -> Start:
    """Return random weights, others for each number."""
    body = jax.jit(bench.model.init)(stream(bench.seed, "weights", number))
    return Start(body, _temperature(bench.model), None)


def _temperature(model: Model) -> Array:
    return jnp.asarray(-0.5 * np.log(model.features), jnp.float32)


def search(bench: Bench, start: Start, budget: Budget) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the best genotype, and {"search_s", "evaluations", "curve": best so far after each evaluation}."""
    space, config = bench.network.space, bench.network.config
    feasible = feasibility(config, space, bench.network.image_shape, bench.network.latency)
    elites = min(2, budget.population - 1)
    strategy = genetic(space, population=budget.population, elites=elites, feasible=feasible)
    init, ask, tell = (compiled(call, bench.clock) for call in (strategy.init, strategy.ask, strategy.tell))
    warm = None if start.warm is None else start.warm[: budget.population]
    seconds, known, curve, best = stopwatch(bench.clock), {}, [], 0.0
    key = stream(bench.seed, "specialise")
    state = init(stream(key, "init"), *([] if warm is None else [warm]))
    for generation in range(budget.generations):
        asked = np.asarray(ask(stream(key, "ask", generation), state))
        for genotype in map(tuple, asked.tolist()):
            if genotype not in known:
                one = (start.body, start.log_temperature, jnp.asarray(genotype, jnp.int32), bench.data)
                accuracy, loss = map(float, bench.probe(*one, jnp.asarray(budget.steps), jnp.asarray(bench.seed)))
                known[genotype] = accuracy - 1e-3 * loss  # of equal accuracies the surer one
                best = max(best, accuracy)
                curve.append([seconds(), best])
        fitness = jnp.asarray([[known[tuple(genotype)]] for genotype in asked.tolist()])
        kept = fitness if feasible is None else jnp.where(feasible(jnp.asarray(asked))[:, None], fitness, -jnp.inf)
        state = tell(state, jnp.asarray(asked), kept)
    best_genotype = np.asarray(strategy.best(state))
    return best_genotype, {"search_s": seconds(), "evaluations": len(known), "curve": curve}


def train(bench: Bench, start: Start, genotype: np.ndarray, searched: dict[str, Any]) -> Trained:
    """Train the network of a genotype; its row carries on the seconds and the curve of its search."""
    network, settings = bench.network, bench.network.config.specialise
    plain = _plain(bench, network.space, genotype)
    space, grown = grown_space(network.space, genotype, *bench.grown)
    larger = _plain(bench, space, grown)
    first, second = jax.random.split(stream(bench.seed, "grow"))
    body = grow(first, plain.cut(start.body), larger.model.init(second), bench.grown[0])
    step = make_supervised(larger.model, bench.ways, settings)
    no_mask = jnp.zeros(())
    before = bench.clock["compile_s"]
    begin, advance, valid = _programs(step, bench.clock, settings)
    seconds, curve, kept = stopwatch(bench.clock), [], []
    training = begin(body, start.log_temperature - np.log(bench.grown[0]), no_mask, bench.data)
    for now in range(0, settings.steps, settings.every):
        steps = jnp.asarray(min(settings.every, settings.steps - now))
        training = advance(training, no_mask, bench.data, steps, jnp.asarray(bench.seed))
        accuracy = float(valid(training.params, no_mask, bench.data))
        curve.append([searched["search_s"] + seconds(), accuracy])
        kept.append(training.params)
    train_s = seconds()
    test = compiled(lambda params, data: step.score(params, None, data, data.test)[0], bench.clock)
    tests = [float(test(params, bench.data)) for params in kept]  # off the clock, and too late to choose anything
    cost = make_cost(network.config, space, network.image_shape, bench.ways)(jnp.asarray(grown))
    row = {
        "genotype": to_text(space, grown),
        "params": int(cost[0]),
        "macs": int(cost[1]),
        "evaluations": searched["evaluations"],
        "search_s": searched["search_s"],
        "train_s": train_s,
        "compile_s": bench.clock["compile_s"] - before,
        "valid": curve[-1][1],
        "test": tests[-1],
        "curve": searched["curve"] + curve,
        "test_curve": [[at, accuracy] for (at, _), accuracy in zip(curve, tests, strict=True)],
    }
    return Trained(space, grown, training.params, row)


def _plain(bench: Bench, space: SearchSpace, genotype: np.ndarray) -> Subnet:
    net = bench.network.config.net
    return make_subnet(
        space, genotype, bench.network.image_shape, normalisation=bench.model.normalisation, readout=net.readout,
        conv=net.conv, dtype=net.dtype,
    )  # fmt: skip


def _programs(step: Supervised, clock: dict[str, float], settings) -> tuple[Callable, Callable, Callable]:
    def advance(training, mask, data, steps, seed):
        return step.advance(training, mask, data, steps, settings.steps, seed)

    def valid(params, mask, data):
        return step.score(params, mask, data, data.valid)[0]

    return compiled(step.start, clock), compiled(advance, clock), compiled(valid, clock)
