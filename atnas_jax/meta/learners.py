"""Meta-learners by name."""

from collections.abc import Iterator

import optax

from atnas_jax.meta.adapt import ADAPTED, Inner
from atnas_jax.meta.distill import Teacher
from atnas_jax.meta.heads import make_head
from atnas_jax.meta.maml import Learned, maml
from atnas_jax.meta.reptile import LENGTH, PathLength, leap, reptile
from atnas_jax.meta.stages import NEVER, Early
from atnas_jax.types import Array, MetaLearner, Model

# name -> (what the inner loop moves unless told otherwise, first order, learned rates)
LEARNERS = {
    "maml": ("all", False, False),
    "fomaml": ("all", True, False),
    "anil": ("head", False, False),
    "boil": ("body", False, False),
    "meta_sgd": ("all", False, True),
    "mtl": ("head", False, False),
    "reptile": ("all", True, False),
    "leap": ("all", True, False),
}
BY_PATH = ("reptile", "leap")  # of these the rest of the inner loop's options are not defined
INNER_OPTIMISERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    # beta1 = 0: momentum inside a task hurts (Nichol et al. 2018, section 6.3); eps_root keeps sqrt differentiable
    "adam": lambda rate: optax.adam(rate, b1=0.0, eps_root=1e-8),
}


def make_learner(
    name: str,
    model: Model,
    outer: optax.GradientTransformation,
    *,
    ways: int,
    head: str = "prototypes",
    adapted: str = "",
    inner_steps: int | Array = 1,
    inner_lr: float = 0.1,
    inner_optimiser: str = "sgd",
    step_rates: bool = False,
    step_norms: bool = False,
    tolerance: float = 0.0,
    remat: bool | None = None,
    early: Early = NEVER,
    length: PathLength = LENGTH,
    teacher: Teacher | None = None,
    task_batch: int = 1,
    axis: str | None = None,
    padded: bool = False,
) -> MetaLearner:
    """Return the meta-learner called `name`.

    Args:
        name: a key of `LEARNERS`.
        model: the network.
        outer: an optax transform for the meta-parameters; that of "mtl" freezes the body some time, see
            `scale_shift.freeze_after`.
        ways: N of the episodes it learns from; a head other than "matrix" serves any N, through another call.
        head: see `meta/heads.py`.
        adapted: "all", "head" or "body"; "" is the learner's own.
        inner_steps: I, see `inner_loop`.
        inner_lr: the inner learning rate, or what learned rates start from.
        inner_optimiser: a key of `INNER_OPTIMISERS`.
        step_rates: learn a rate for each layer and inner step, see `rates.scaled_by_step`.
        step_norms: learn scale and bias of the norms for each inner step, see `held.norms_of_step`.
        tolerance: nats; of a learner that adapts and predicts but never steps: where above 0, it adapts until an inner
            step lowers the support loss by less, `inner_steps` at most, see `settling_loop`.
        remat: compute inner steps again in the backward pass, or do not; None: where that pays, see `inner_loop`.
        early: what the first outer steps do differently, see `stages.py`.
        length: which length "leap" shortens.
        teacher: of in-place distillation, see `distillation`; learners by path have no query loss to add it to.
        task_batch: episodes differentiated together, see `outer_step`.
        axis: the mapped axis of the devices that share the tasks, see `devices.py`; None is one device.
        padded: of a learner that adapts and predicts but never steps: whether rows of label -1 are padding, see
            `MetaLearner`; `ways` is then the most classes that a task has.

    Raises:
        ValueError: an unknown name, or an option that the learner does not have.
    """
    for key, value, known in (
        ("name", name, LEARNERS),
        ("inner_optimiser", inner_optimiser, INNER_OPTIMISERS),
        ("adapted", adapted or "all", ADAPTED),
    ):
        if value not in known:
            raise ValueError(f"learner.{key}={value!r} is unknown; choose one of {', '.join(known)}")
    own, first_order, weight_rates = LEARNERS[name]
    adapted = adapted or own
    for problem in refused(name, adapted, step_rates, step_norms, early, teacher.weight if teacher else 0.0):
        raise ValueError(problem)
    if padded and model.normalisation == "batch_transductive":
        raise ValueError("net.normalisation 'batch_transductive' would see padding; give padded=False")
    optimiser = INNER_OPTIMISERS[inner_optimiser](1.0 if weight_rates or step_rates else inner_lr)
    inner = Inner(adapted, inner_steps, optimiser, first_order, step_norms, tolerance, remat, padded)
    parts, options = (model, make_head(head, ways), ways, inner, outer), {"task_batch": task_batch, "axis": axis}
    if name == "reptile":
        return reptile(*parts, **options)
    if name == "leap":
        return leap(*parts, length=length, **options)
    learned = Learned(inner_lr if weight_rates else None, inner_lr if step_rates else None, name == "mtl")
    return maml(*parts, learned=learned, early=early, teacher=teacher, **options)


def refused(
    name: str, adapted: str, step_rates: bool, step_norms: bool, early: Early, taught: float = 0.0
) -> Iterator[str]:
    """Yield, in one line each, what the learner `name`, whose inner loop moves `adapted`, cannot be asked for."""
    if name in BY_PATH and (step_rates or step_norms or any(early)):
        yield (
            f"learner.name {name!r} differentiates through no inner step: set learner.step_rates, learner.step_norms, "
            "train.first_order_steps and train.every_step_loss to False and 0"
        )
    if name in BY_PATH and adapted != "all":
        yield f"learner.name {name!r} follows body and head along the inner loop; give adapted 'all', not {adapted!r}"
    if name in BY_PATH and taught:
        yield f"train.distill {taught} needs a query loss, which {name!r} has not; set it to 0 or take 'fomaml'"
    if step_rates and LEARNERS[name][2]:
        yield f"learner.name {name!r} learns a rate for every weight; set learner.step_rates to False or take 'maml'"
    if step_norms and (adapted == "head" or name == "mtl"):
        yield f"learner.name {name!r} keeps one body for all inner steps; set learner.step_norms to False"
    if early.first_order and LEARNERS[name][1]:
        yield f"learner.name {name!r} is of first order throughout; set train.first_order_steps to 0 or take 'maml'"
