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
from atnas_jax.devices import TASKS, mesh_for, spread
from atnas_jax.job.budget import rows_of
from atnas_jax.job.compiled import one_a_core
from atnas_jax.job.config import evaluation_steps, strategy_options
from atnas_jax.job.costs import feasibility, gradient_options, load_latency, make_cost, share_of_limits
from atnas_jax.job.outer import outer_optimiser
from atnas_jax.job.reorder import reordering
from atnas_jax.job.spaces import check_hand_made, control_space, make_space
from atnas_jax.meta.distill import Teacher
from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.reptile import PathLength
from atnas_jax.meta.stages import Early
from atnas_jax.nets.norm import is_transductive, other_normalisation
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.rng import stream
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.search.strategies import BY_GRADIENT, make_strategy
from atnas_jax.space.equivalents import equivalents
from atnas_jax.space.expected import CostTables
from atnas_jax.space.extremes import largest
from atnas_jax.space.slots import SearchSpace, mask_of, random_genotypes
from atnas_jax.types import Array, MetaLearner, Strategy

TRIED = 4096  # random genotypes that tell whether limits leave any


class Control(NamedTuple):
    """The hand-made network that is trained alone, see `control_space`."""

    space: SearchSpace
    learner: MetaLearner  # of the training episodes, without a teacher
    cost: Callable[[Array], Array]  # of its space, as that of the run


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


def evaluation_learner(
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    ways: int,
    *,
    normalisation: str = "",
    inner_steps: int | Array | None = None,
    tolerance: float | None = None,
) -> MetaLearner:
    """Return the learner that adapts trained weights to episodes of `ways` classes.

    Args:
        config: of the run.
        space, image_shape: of the run.
        ways: N of the episodes.
        normalisation: another one than the config's, of the same weights.
        inner_steps: another number than the config's; a traced one serves all.
        tolerance: another one than the config's; 0 takes all inner steps, so a static number can be differentiated.
    """
    steps = evaluation_steps(config) if inner_steps is None else inner_steps
    ends = config.learner.tolerance if tolerance is None else tolerance
    return _learner(config, space, image_shape, ways, normalisation, steps, tolerance=ends)


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
    learner, control = _learners(config, space, image_shape, cost)
    return Parts(
        mesh=devices,
        by_core=one_a_core(rows_of(config)),
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
    learner, control = _learners(config, parts.space, parts.image_shape, parts.cost)
    devices = mesh_for(rows_of(config), mesh, config.devices)
    dataset = replace(parts.dataset, table=spread(parts.dataset.table, devices))
    by_core = one_a_core(rows_of(config))
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


def _learners(config, space, image_shape, cost) -> tuple[MetaLearner, Control]:
    alone, own = _alone(config, space, image_shape), control_space(space)
    control = Control(space, alone, cost)
    if own is not space:
        counted = jax.jit(make_cost(config, own, image_shape, config.protocol.ways))
        control = Control(own, _alone(config, own, image_shape), counted)
    return _taught(config, space, image_shape) if config.train.distill else alone, control


def _alone(config, space, image_shape) -> MetaLearner:
    return _learner(config, space, image_shape, config.train.ways, "", config.learner.inner_steps)


def _taught(config, space, image_shape) -> MetaLearner:
    teacher = Teacher(mask_of(space, largest(space)), config.train.distill)
    return _learner(config, space, image_shape, config.train.ways, "", config.learner.inner_steps, teacher)


def _learner(config, space, image_shape, ways, normalisation, inner_steps, teacher=None, tolerance=0.0) -> MetaLearner:
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
        tolerance=tolerance,
        remat={"auto": None, "always": True, "never": False}[config.train.remat],
        early=Early(config.train.first_order_steps, config.train.every_step_loss),
        length=PathLength(learner.leap_loss, learner.leap_norm),
        teacher=teacher,
        task_batch=config.train.task_batch,
        axis=TASKS,
    )
