"""From a config to the parts of a run: data, space, learners, strategies."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from atnas_jax.data.sources import load
from atnas_jax.data.spec import EpisodeSpec, check_episode_spec
from atnas_jax.data.table import DataSet, channel_statistics
from atnas_jax.devices import TASKS, mesh_for, spread
from atnas_jax.job.config import evaluation_steps, strategy_options
from atnas_jax.job.costs import feasibility, gradient_options, load_latency, make_cost, share_of_limits
from atnas_jax.job.outer import outer_optimiser
from atnas_jax.job.reorder import reordering
from atnas_jax.meta.distill import Teacher
from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.reptile import PathLength
from atnas_jax.meta.stages import Early
from atnas_jax.nets.norm import is_transductive, other_normalisation
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.rng import stream
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.search.strategies import BY_GRADIENT, make_strategy
from atnas_jax.space import cell, chain
from atnas_jax.space.equivalents import equivalents
from atnas_jax.space.expected import CostTables
from atnas_jax.space.extremes import largest
from atnas_jax.space.slots import SearchSpace, mask_of, random_genotypes
from atnas_jax.types import Array, MetaLearner, Strategy

TRIED = 4096  # random genotypes that tell whether limits leave any


class Parts(NamedTuple):
    """What a run is made of; pure functions and static values only."""

    mesh: Mesh  # of the devices that share the work
    dataset: DataSet  # whole on each of them
    normalise: tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation per channel, of meta_train
    space: SearchSpace
    image_shape: tuple[int, int, int]
    cost: Callable[[Array], Array]  # genotypes int32 [...,E] -> parameters and multiply-adds int32 [...,2]
    latency: CostTables | None  # of the config's file, milliseconds
    learner: MetaLearner  # of the training episodes
    control: MetaLearner  # the same without a teacher, for the network of `control_space` trained alone
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


def make_space(config: ConfigDict) -> SearchSpace:
    """Build the search space that a config describes."""
    if config.space.family == "chain":
        given = config.space.chain.to_dict()
        ops = tuple(given.pop("ops"))
        blocks = (ops,) * len(given["strides"]) if isinstance(ops[0], str) else tuple(map(tuple, ops))
        lists = {name: tuple(given[name]) for name in ("widths", "depths", "strides")}
        return chain.chain_space(chain.ChainSpec(ops=blocks, **{**given, **lists}))
    given = config.space.cell.to_dict()
    lists = {name: tuple(given[name]) for name in ("ops", "reductions")}
    return cell.cell_space(cell.CellSpec(**{**given, **lists}))


def hand_made(space: SearchSpace) -> Array:
    """Return the genotype int32 [E] of the hand-made network of a space, Conv4 for a chain of four blocks."""
    return jnp.asarray({"chain": chain, "cell": cell}[space.family].hand_made(space))


def control_space(space: SearchSpace) -> SearchSpace:
    """Return the space whose hand-made network is the control, trained alone: the given one, as a rule.

    A chain of more than four blocks has a hand-made network deeper than Conv4, so its control is in a space of Conv4
    alone: four blocks of 3x3 convolutions of the largest width, each of which halves the image.
    """
    if space.family != "chain" or len(space.spec.ops) <= 4:
        return space
    return chain.chain_space(
        chain.ChainSpec((("conv3",),) * 4, space.spec.widths[-1:], (4,), (2,) * 4, space.spec.downsample)
    )


def control_parts(config: ConfigDict, parts: Parts) -> Parts:
    """Return what the control is scored and counted with: the parts of the run in `control_space`."""
    space = control_space(parts.space)
    if space is parts.space:
        return parts
    cost = jax.jit(make_cost(config, space, parts.image_shape, config.protocol.ways))
    return parts._replace(space=space, cost=cost, latency=None, learner=parts.control)


def evaluation_learner(
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    ways: int,
    *,
    normalisation: str = "",
    inner_steps: int | Array | None = None,
) -> MetaLearner:
    """Return the learner that adapts trained weights to episodes of `ways` classes.

    Args:
        config: of the run.
        space, image_shape: of the run.
        ways: N of the episodes.
        normalisation: another one than the config's, of the same weights.
        inner_steps: another number than the config's; a traced one serves all.
    """
    steps = evaluation_steps(config) if inner_steps is None else inner_steps
    return _learner(config, space, image_shape, ways, normalisation, steps)


def build(config: ConfigDict, mesh: str = "") -> Parts:
    """Load the data and build everything that a search across tasks needs.

    Args:
        config: of the run.
        mesh: the layout of the devices, see `mesh_for`; it is no setting, as a run may go on with other devices.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit.
    """
    train, test = config.train, config.protocol
    devices = mesh_for(train.tasks // train.task_batch, mesh)
    dataset, space = load_data(config), make_space(config)
    image_shape = tuple(dataset.table.images.shape[1:])
    cost = jax.jit(make_cost(config, space, image_shape, test.ways))
    of_control = control_space(space)
    if config.search.anchor != "never" or (config.meta_test.conv4 and of_control is space):
        _check_hand_made(space)
    train_spec, test_spec = _episode_specs(config, dataset)
    latency = load_latency(config.search.latency, space, image_shape)
    _check_limits(config, space, image_shape, latency)
    reordering(config, space)
    alone = _alone(config, space, image_shape)
    return Parts(
        mesh=devices,
        dataset=replace(dataset, table=spread(dataset.table, devices)),
        normalise=channel_statistics(dataset),
        space=space,
        image_shape=image_shape,
        cost=cost,
        latency=latency,
        learner=_taught(config, space, image_shape) if train.distill else alone,
        control=alone if of_control is space else _alone(config, of_control, image_shape),
        strategy=make_search(config, space, image_shape, latency),
        train_spec=train_spec,
        test_spec=test_spec,
    )


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


def normalisations(config: ConfigDict) -> dict[str, str]:
    """Return the modes that the weights allow, the protocol's own first: {"inductive" | "transductive": name}."""
    own = config.net.normalisation
    names = [own] + ([other_normalisation(own)] if config.meta_test.other_normalisation else [])
    return {"transductive" if is_transductive(name) else "inductive": name for name in names if name}


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


def _check_hand_made(space: SearchSpace) -> None:
    try:
        hand_made(space)
    except ValueError as error:
        raise ValueError(f"{error}; add it, or set search.anchor to 'never' and meta_test.conv4 to False") from error


def _alone(config, space, image_shape) -> MetaLearner:
    return _learner(config, space, image_shape, config.train.ways, "", config.learner.inner_steps)


def _taught(config, space, image_shape) -> MetaLearner:
    teacher = Teacher(mask_of(space, largest(space)), config.train.distill)
    return _learner(config, space, image_shape, config.train.ways, "", config.learner.inner_steps, teacher)


def _learner(config, space, image_shape, ways, normalisation, inner_steps, teacher=None) -> MetaLearner:
    learner, net = config.learner, config.net
    model = make_supernet(
        space,
        image_shape,
        normalisation=normalisation or net.normalisation,
        readout=net.readout,
        execution=net.execution,
        conv=net.conv,
        dtype=net.dtype,
    )
    return make_learner(
        learner.name,
        model,
        outer_optimiser(config),
        ways=ways,
        head=learner.head,
        inner_steps=inner_steps,
        inner_lr=learner.inner_lr,
        inner_optimiser=learner.inner_optimiser,
        step_rates=learner.step_rates,
        step_norms=learner.step_norms,
        early=Early(config.train.first_order_steps, config.train.every_step_loss),
        length=PathLength(learner.leap_loss, learner.leap_norm),
        teacher=teacher,
        task_batch=config.train.task_batch,
        axis=TASKS,
    )
