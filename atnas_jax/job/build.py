"""From a config to the parts of a run: data, space, learners, strategies."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from atnas_jax.data.sources import load
from atnas_jax.data.spec import EpisodeSpec, check_episode_spec
from atnas_jax.data.table import DataSet, channel_statistics
from atnas_jax.devices import mesh_for, spread
from atnas_jax.job.budget import rows_of
from atnas_jax.job.compiled import one_a_core
from atnas_jax.job.config import strategy_options
from atnas_jax.job.costs import feasibility, gradient_options, load_latency, make_cost, share_of_limits
from atnas_jax.job.learners import Control, training_learners
from atnas_jax.job.reorder import reordering
from atnas_jax.job.spaces import check_hand_made, make_space
from atnas_jax.rng import stream
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.search.strategies import BY_GRADIENT, make_strategy
from atnas_jax.space.equivalents import equivalents
from atnas_jax.space.expected import CostTables
from atnas_jax.space.slots import SearchSpace, random_genotypes
from atnas_jax.types import Array, MetaLearner, Strategy

TRIED = 4096  # random genotypes that tell whether limits leave any


class Parts(NamedTuple):
    """What a run is made of; pure functions and static values only."""

    mesh: Mesh  # of the devices that share the work
    by_core: bool  # see `options_for`
    dataset: DataSet  # whole on each of them
    normalise: tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation per channel, of meta_train
    space: SearchSpace
    image_shape: tuple[int, int, int]
    cost: Callable[[Array], Array]  # genotypes int32 [...,E] -> parameters and multiply-adds int32 [...,2]
    latency: CostTables | None  # of the config's file, milliseconds
    learner: MetaLearner  # of the training episodes
    control: Control
    strategy: Strategy  # across tasks
    train_spec: EpisodeSpec
    test_spec: EpisodeSpec


def load_data(config: ConfigDict) -> DataSet:
    """Load the data that a config names."""
    data = config.data
    options = {"difficulty": data.difficulty} if data.source in ("glyphs", "glyphs-color") else {}
    return load(
        data.source,
        split=data.split,
        protocol=data.protocol,
        image_size=data.image_size,
        channels=data.channels,
        cache_dir=data.cache_dir or None,
        **options,
    )


def build(config: ConfigDict, mesh: str = "") -> Parts:
    """Load the data and build everything that a search across tasks needs.

    Args:
        config: of the run.
        mesh: the layout of the devices, see `mesh_for`; it is no setting, as a run may go on with other devices.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit.
    """
    devices = mesh_for(rows_of(config), mesh, config.devices)
    dataset, space = load_data(config), make_space(config)
    image_shape = tuple(dataset.table.images.shape[1:])
    cost = jax.jit(make_cost(config, space, image_shape, config.protocol.ways))
    check_hand_made(config, space)
    train_spec, test_spec = _episode_specs(config, dataset)
    latency = load_latency(config.search.latency, space, image_shape)
    _check_limits(config, space, image_shape, latency)
    reordering(config, space)
    learner, control = training_learners(config, space, image_shape, cost)
    return Parts(
        mesh=devices,
        by_core=one_a_core(rows_of(config), config.devices),
        dataset=replace(dataset, table=spread(dataset.table, devices)),
        normalise=channel_statistics(dataset),
        space=space,
        image_shape=image_shape,
        cost=cost,
        latency=latency,
        learner=learner,
        control=control,
        strategy=make_search(config, space, image_shape, latency),
        train_spec=train_spec,
        test_spec=test_spec,
    )


def relearned(config: ConfigDict, parts: Parts, mesh: str = "") -> Parts:
    """Return the parts of a config that computes the same otherwise, by what `run/pick.py` measures.

    Args:
        config: differs from that of the parts in these settings alone.
        parts: of the run.
        mesh: as of `build`.
    """
    learner, control = training_learners(config, parts.space, parts.image_shape, parts.cost)
    devices = mesh_for(rows_of(config), mesh, config.devices)
    dataset = replace(parts.dataset, table=spread(parts.dataset.table, devices))
    by_core = one_a_core(rows_of(config), config.devices)
    return parts._replace(mesh=devices, by_core=by_core, dataset=dataset, learner=learner, control=control)


def make_search(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None = None
) -> Strategy:
    """Return the strategy of the search across tasks, with the limits of the config."""
    name = config.search.strategy
    options = strategy_options(config) | {"population": config.search.population}
    if name == "nsga2":
        options["objectives"] = len(config.search.objectives)
    if name == "nao" and config.search.equivalents:
        options["equivalents"] = equivalents(space)
    if name in BY_GRADIENT:
        options |= gradient_options(config, space, image_shape, latency)
    used = share_of_limits(config, space, image_shape, latency)
    repairs = used is not None and config.search.over_limit == "repair"
    if not repairs or name in BY_GRADIENT:  # whose best may be a genotype that nobody asked
        options["feasible"] = feasibility(config, space, image_shape, latency)
    strategy = make_strategy(name, space, **options)
    return repaired(strategy, cheaper(space, used, 1.0)) if repairs else strategy


def _check_limits(config, space, image_shape, latency) -> None:
    feasible = feasibility(config, space, image_shape, latency)
    if feasible is not None and not feasible(random_genotypes(stream(config.seed, "limits"), space, TRIED)).any():
        raise ValueError(
            f"search.max_params {config.search.max_params} and search.max_macs {config.search.max_macs} and "
            f"search.max_latency_ms {config.search.max_latency_ms} (0: none) leave none of {TRIED} random genotypes; "
            "raise them"
        )


def _episode_specs(config: ConfigDict, dataset: DataSet) -> tuple[EpisodeSpec, EpisodeSpec]:
    """Return the specs of training and test; a ValueError names the section whose episodes the data cannot give."""
    train, test = config.train, config.protocol
    kinds = {name: getattr(train, name) for name in ("rotations", "flip", "warp", "mirrors", "alike")}
    trained = EpisodeSpec(train.ways, train.shots, train.queries, **kinds)
    tested = EpisodeSpec(test.ways, test.shots, test.queries)
    needed = [("train", "meta_train", trained)]
    if train.finish_valid:  # beside meta_train, so two ways are enough
        needed.append(("train.finish_valid", "meta_valid", replace(trained, ways=2)))
    needed.append(("protocol", "meta_valid", tested))
    needed.append(("protocol", "meta_test", replace(tested, rotations=test.rotations)))
    for section, split, spec in needed:
        try:
            check_episode_spec(dataset, split, spec)
        except ValueError as error:
            raise ValueError(f"{section}: {error}") from error
    return trained, tested
