"""The learners of a config: that which trains across tasks, that of the hand-made network, and those that evaluate."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from atnas_jax.devices import TASKS
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.costs import make_cost
from atnas_jax.job.outer import outer_optimiser
from atnas_jax.job.spaces import control_space
from atnas_jax.meta.distill import Teacher
from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.reptile import PathLength
from atnas_jax.meta.stages import Early
from atnas_jax.nets.norm import is_transductive, other_normalisation
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.extremes import largest
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, MetaLearner


class Control(NamedTuple):
    """The hand-made network that is trained alone, see `control_space`."""

    space: SearchSpace
    learner: MetaLearner  # of the training episodes, without a teacher
    cost: Callable[[Array], Array]  # of its space, as that of the run


def evaluation_learner(
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    ways: int,
    *,
    normalisation: str = "",
    inner_steps: int | Array | None = None,
    tolerance: float | None = None,
    padded: bool = False,
) -> MetaLearner:
    """Return the learner that adapts trained weights to episodes of `ways` classes.

    Args:
        config: of the run.
        space, image_shape: of the run.
        ways: N of the episodes.
        normalisation: another one than the config's, of the same weights.
        inner_steps: another number than the config's; a traced one serves all.
        tolerance: another one than the config's; 0 takes all inner steps, so a static number can be differentiated.
        padded: whether rows of label -1 are padding, see `MetaLearner`; `ways` is then the most that there may be.
    """
    steps = evaluation_steps(config) if inner_steps is None else inner_steps
    ends = config.learner.tolerance if tolerance is None else tolerance
    return _learner(config, space, image_shape, ways, normalisation, steps, tolerance=ends, padded=padded)


def normalisations(config: ConfigDict) -> dict[str, str]:
    """Return the modes that the weights allow, the protocol's own first: {"inductive" | "transductive": name}."""
    own = config.net.normalisation
    names = [own] + ([other_normalisation(own)] if config.meta_test.other_normalisation else [])
    return {"transductive" if is_transductive(name) else "inductive": name for name in names if name}


def training_learners(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], cost: Callable[[Array], Array]
) -> tuple[MetaLearner, Control]:
    """Return the learner of the training episodes, and the hand-made network with its own.

    Args:
        config: of the run.
        space, image_shape, cost: as of `Parts`.
    """
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


def _learner(
    config, space, image_shape, ways, normalisation, inner_steps, teacher=None, tolerance=0.0, padded=False
) -> MetaLearner:
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
    made = make_learner(
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
        padded=padded,
    )
    return made if config.search.sharing else made._replace(blockwise=None)
