"""From meta-parameters and a support set to adapted parameters and predictions.

Meta-parameters are a dict: "body" (the supernet), "head" (see `heads.py`) and what else is learned: "rates" of
Meta-SGD, "step_rates" of MAML++, "scale_shift" of meta-transfer learning. Adapted parameters are
{"body", "head": {"w", "b"}}.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from atnas_jax.meta.heads import Head, logits_of, without_absent
from atnas_jax.meta.held import any_leaf, hold, in_norm, norms_of_step, of_task_norm
from atnas_jax.meta.inner import is_zero, numbered_loop, settling_loop
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.meta.rates import with_rates
from atnas_jax.meta.scale_shift import NAME, scale_and_shift
from atnas_jax.types import Array, BlockwiseSolve, Model, Params, PyTree, Reference

ADAPTED = {"all": ("body", "head"), "head": ("head",), "body": ("body",)}


class Inner(NamedTuple):
    """The settings of the inner loop.

    adapted: "all", "head" (ANIL, Raghu et al. 2020) or "body" (BOIL, Oh et al. 2021)
    steps: I, see `inner_loop`
    optimiser: an optax transform; with learned rates its updates are multiplied by them
    first_order: drop the second derivatives
    step_norms: the norms have a row a step and are learned outside alone, see `held.py`
    tolerance: where above 0 nothing differentiates through the loop, and it ends early, see `settling_loop`
    remat: compute each step again in the backward pass, see `inner_loop`
    padded: see `MetaLearner`
    """

    adapted: str
    steps: int | Array
    optimiser: optax.GradientTransformation
    first_order: bool = False
    step_norms: bool = False
    tolerance: float = 0.0
    remat: bool | None = None
    padded: bool = False


def real_rows(labels: Array, padded: bool) -> Array | None:
    """Return which rows are not padding, bool [n], by their labels int32 [n], or None where there can be none."""
    return labels >= 0 if padded else None


def embed_support(model: Model, body: Params, mask: Array, x: Array, real: Array | None = None) -> Array:
    """Return the embedding [S,D] of support images, normalised by themselves; `real` as of `real_rows`."""
    return model.apply(body, x, mask, real)


def embed_query(
    model: Model, body: Params, mask: Array, support_x: Array, query_x: Array, real: Array | None = None
) -> Array:
    """Return the embedding [Q,D] of queries; only a normalisation by the support needs the support images."""
    if model.normalisation not in ("support", "tasknorm"):
        return model.apply(body, query_x, mask, None)
    return embed_both(model, body, mask, support_x, query_x, real)[1]


def embed_both(
    model: Model, body: Params, mask: Array, support_x: Array, query_x: Array, real: Array | None = None
) -> tuple[Array, Array]:
    """Return the embeddings [S,D] and [Q,D] in one pass; batch statistics, if any, are those of the support."""
    rows = support_x.shape[0]
    both = jnp.concatenate([support_x, query_x])
    embedded = model.apply(body, both, mask, support_of(rows, len(query_x), real))
    return embedded[:rows], embedded[rows:]


def support_of(support: int, queries: int, real: Array | None = None) -> Reference:
    """Return which rows are support images, where so many stand before so many queries.

    Args:
        support, queries: their numbers.
        real: of the support, as of `real_rows`.
    """
    return support if real is None else jnp.concatenate([real, jnp.zeros(queries, bool)])


class Task(NamedTuple):
    """What the inner loop sees of one task.

    start: what it moves, at the meta-parameters
    loss: (what it moves, step int32 []) -> the support cross-entropy
    optimiser: the inner one, with learned rates if there are any
    whole: (what it moves, steps taken) -> adapted parameters {"body", "head"}
    """

    start: Params
    loss: Callable[[Params, Array], Array]
    optimiser: optax.GradientTransformation
    whole: Callable[[Params, int | Array], Params]


def make_task(model: Model, head: Head, ways: int, inner: Inner) -> Callable[..., Task]:
    """Return task(params, mask [E,O], support_x [S,H,W,C], support_y [S], features=None) -> Task, see `make_adapt`."""
    moving = ADAPTED[inner.adapted]

    def task(params: Params, mask: Array, support_x: Array, support_y: Array, features: Array | None = None) -> Task:
        # A body that stays where it is embeds the support once, for the head and for every step.
        once = head.uses_support or ("body" not in moving and not is_zero(inner.steps))
        body = first_body(params, inner.step_norms)
        real = real_rows(support_y, inner.padded)
        if features is None:
            features = embed_support(model, body, mask, support_x, real) if once else jnp.zeros((1, model.features))
        start = {"body": body, "head": head.build(params["head"], features, support_y, ways)}
        if inner.padded:
            start["head"] = without_absent(start["head"], support_y)
        fixed = {name: start[name] for name in start if name not in moving}

        def whole(fast, step):
            now = fixed | fast
            if inner.step_norms:
                return now | {"body": hold(now["body"], norms_of_step(params["body"], step), in_norm)}
            if any_leaf(body, of_task_norm):
                return now | {"body": hold(now["body"], body, of_task_norm)}
            return now

        def loss(fast, step):
            now = whole(fast, step)
            embedding = features if "body" in fixed else embed_support(model, now["body"], mask, support_x, real)
            return cross_entropy(logits_of(now["head"], embedding), support_y, inner.padded)

        optimiser = with_rates(inner.optimiser, params, moving, ways)
        return Task({name: start[name] for name in moving}, loss, optimiser, whole)

    return task


def make_adapt(model: Model, head: Head, ways: int, inner: Inner) -> Callable[..., Params]:
    """Return adapt(params, mask [E,O], support_x [S,H,W,C], support_y [S], features=None, after=None).

    The head is built from the meta-parameters (and, for prototypes, the support), then `inner.steps` steps of the
    support cross-entropy move what `inner.adapted` names. With "rates" in params (Meta-SGD, Li et al. 2017, eq. 3)
    every update is multiplied elementwise by its own learned rate; "step_rates" are one a layer and step (MAML++).
    `features` [S,D] is the embedding of the support under params, where the caller has it. The result is {"body",
    "head"}; or, with `after`, what it returns of that after every one of the I steps, with a leading I.
    """
    make = make_task(model, head, ways, inner)

    def adapt(
        params: Params,
        mask: Array,
        support_x: Array,
        support_y: Array,
        features: Array | None = None,
        after: Callable[[Params], PyTree] | None = None,
    ) -> PyTree:
        task = make(params, mask, support_x, support_y, features)
        if inner.tolerance and after is None and not is_zero(inner.steps):
            return task.whole(*settling_loop(task.loss, task.start, task.optimiser, inner.steps, inner.tolerance))
        see = None if after is None else lambda fast, step: after(task.whole(fast, step))
        fast, seen = numbered_loop(
            task.loss, task.start, task.optimiser, inner.steps,
            after=see, first_order=inner.first_order, remat=inner.remat,
        )  # fmt: skip
        return task.whole(fast, inner.steps) if after is None else seen

    return adapt


def first_body(params: Params, step_norms: bool) -> Params:
    """Return the body before the first inner step; `step_norms` is as of `Inner`."""
    if NAME in params:
        return scale_and_shift(params["body"], params[NAME])
    return norms_of_step(params["body"], 0) if step_norms else params["body"]


def make_predict(model: Model) -> Callable[..., Array]:
    """Return predict(adapted, mask, support_x, query_x, real=None) -> logits float32 [Q,N], see `MetaLearner`."""

    def predict(adapted: Params, mask: Array, support_x: Array, query_x: Array, real: Array | None = None) -> Array:
        return logits_of(adapted["head"], embed_query(model, adapted["body"], mask, support_x, query_x, real))

    return predict


def make_solve(
    model: Model, inner: Inner, adapt: Callable[..., Params], predict: Callable[..., Array], every_step: bool = False
) -> Callable[..., Array]:
    """Return solve(params, mask, support_x, support_y, query_x) -> logits float32 [Q,N] after adaptation.

    A body that stays where it is embeds support and queries in one pass, if the queries have no say in the statistics.
    With `every_step` the logits are those after each inner step, [I,Q,N].
    """
    at_once = embeds_at_once(model, inner)

    def solve(params: Params, mask: Array, support_x: Array, support_y: Array, query_x: Array) -> Array:
        task, real = (params, mask, support_x, support_y), real_rows(support_y, inner.padded)
        support, query = None, None
        if at_once:
            support, query = embed_both(model, first_body(params, inner.step_norms), mask, support_x, query_x, real)

        def logits(adapted):
            if at_once:
                return logits_of(adapted["head"], query)
            return predict(adapted, mask, support_x, query_x, real)

        return adapt(*task, support, logits) if every_step else logits(adapt(*task, support))

    return solve


def embeds_at_once(model: Model, inner: Inner) -> bool:
    """Return whether one pass embeds support and queries: the body stays, and queries have no say in the statistics."""
    return "body" not in ADAPTED[inner.adapted] and model.normalisation != "batch_transductive"


def make_blockwise(model: Model, inner: Inner, adapt: Callable[..., Params]) -> BlockwiseSolve | None:
    """Return `make_solve` block by block, or None.

    It needs a model that has blocks, an inner loop that leaves the body as it is, or no block would be the same for two
    genotypes after it, and queries that have no say in the statistics, as support and queries go in one pass.
    """
    body = model.blockwise
    if body is None or not embeds_at_once(model, inner):
        return None

    def prepare(params: Params) -> Params:
        return body.prepare(first_body(params, inner.step_norms))

    def solve(params: Params, value: PyTree, support_y: Array) -> Array:
        embedded, rows = body.embed(value), len(support_y)
        adapted = adapt(params, None, None, support_y, embedded[:rows])  # which looks at neither mask nor images
        return logits_of(adapted["head"], embedded[rows:])

    return BlockwiseSolve(body._replace(prepare=prepare), solve)
