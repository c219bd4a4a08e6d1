"""Meta-learners by name."""

import optax

from atnas_jax.meta.distill import Teacher
from atnas_jax.meta.heads import make_head
from atnas_jax.meta.maml import ADAPTED, Inner, maml, reptile
from atnas_jax.types import Array, MetaLearner, Model

# name -> (what the inner loop moves unless told otherwise, first order, learned rates)
LEARNERS = {
    "maml": ("all", False, False),
    "fomaml": ("all", True, False),
    "anil": ("head", False, False),
    "boil": ("body", False, False),
    "meta_sgd": ("all", False, True),
    "reptile": ("all", True, False),
}
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
    teacher: Teacher | None = None,
    task_batch: int = 1,
    axis: str | None = None,
) -> MetaLearner:
    """Return the meta-learner called `name`.

    Args:
        name: a key of `LEARNERS`.
        model: the network.
        outer: an optax transform for the meta-parameters.
        ways: N of the episodes it learns from; a head other than "matrix" serves any N, through another call.
        head: see `meta/heads.py`.
        adapted: "all", "head" or "body"; "" is the learner's own.
        inner_steps: I, see `inner_loop`.
        inner_lr: the inner learning rate, or what Meta-SGD's learned rates start from.
        inner_optimiser: a key of `INNER_OPTIMISERS`.
        teacher: of in-place distillation, see `distillation`; "reptile" has no query loss to add it to.
        task_batch: episodes differentiated together, see `outer_step`.
        axis: the mapped axis of the devices that share the tasks, see `devices.py`; None is one device.

    Raises:
        ValueError: an unknown name, or a teacher for "reptile".
    """
    for key, value, known in (
        ("name", name, LEARNERS),
        ("inner_optimiser", inner_optimiser, INNER_OPTIMISERS),
        ("adapted", adapted or "all", ADAPTED),
    ):
        if value not in known:
            raise ValueError(f"learner.{key}={value!r} is unknown; choose one of {', '.join(known)}")
    own, first_order, learned_rates = LEARNERS[name]
    optimiser = INNER_OPTIMISERS[inner_optimiser](1.0 if learned_rates else inner_lr)
    inner = Inner(adapted or own, inner_steps, optimiser, first_order)
    start = make_head(head, ways)
    if name == "reptile":
        if teacher is not None:
            raise ValueError("train.distill needs a query loss, which learner.name 'reptile' has not; take 'fomaml'")
        return reptile(model, start, ways, inner, outer, task_batch=task_batch, axis=axis)
    rate = inner_lr if learned_rates else None
    return maml(model, start, ways, inner, outer, rate=rate, teacher=teacher, task_batch=task_batch, axis=axis)
