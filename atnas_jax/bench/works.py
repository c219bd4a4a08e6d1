"""The works that are timed, each with its operations counted by hand.

Operations are multiply-adds times two. A gradient of a pass costs two more passes, and the reverse of a gradient
(second order) twice that gradient again, hence per image, in passes: 1 to predict, 3 to differentiate, 9 for a support
image of an inner step that is differentiated through. Recomputation counts as nothing: it is the design's own affair.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from atnas_jax.evaluate import evaluate
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import SearchSpace, mask_of, random_genotypes
from atnas_jax.types import Array, Episode, MetaLearner, MetaState, Params

INNER_LR = 0.05
SEVEN_OPS = ("conv3", "conv5", "dil3", "sep3", "max3", "avg3", "identity")


class Sizes(NamedTuple):
    """How large a work is; the defaults are MAML's 5-way 1-shot Omniglot task on its 32-channel network."""

    tasks: int = 16
    ways: int = 5
    shots: int = 1
    queries: int = 15  # per class
    steps: int = 5  # inner
    channels: int = 32
    depth: int = 4
    image: int = 28  # height and width
    downsample: str = "pool"
    ops: tuple[str, ...] = ("conv3",)  # of every block
    population: int = 32
    conv: str = "auto"  # see `nets/conv.py`

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (self.image, self.image, 1)


def space_of(sizes: Sizes) -> SearchSpace:
    """Return the chain space of these sizes, whose hand-made genotype is Conv4."""
    strides = (2,) * min(sizes.depth, 4) + (1,) * (sizes.depth - 4)
    spec = ChainSpec((sizes.ops,) * sizes.depth, (sizes.channels,), (sizes.depth,), strides, sizes.downsample)
    return chain_space(spec)


def draw_episodes(sizes: Sizes) -> Episode:
    """Return a batch of episodes of noise, leading T."""
    rng = np.random.default_rng(0)
    support, query = sizes.ways * sizes.shots, sizes.ways * sizes.queries

    def part(items, each):
        labels = np.repeat(np.arange(sizes.ways, dtype=np.int32), each)
        images = rng.normal(size=(sizes.tasks, items, *sizes.image_shape)).astype(np.float32)
        return jnp.asarray(images), jnp.broadcast_to(jnp.asarray(labels), (sizes.tasks, items))

    return Episode(*part(support, sizes.shots), *part(query, sizes.queries))


def draw_genotypes(sizes: Sizes) -> Array:
    """Return random genotypes int32 [P,E]."""
    return random_genotypes(jax.random.key(0), space_of(sizes), sizes.population)


def learner_of(sizes: Sizes, name: str = "maml", *, plain: bool = False, axis: str | None = None) -> MetaLearner:
    """Return the learner of a work: batch statistics and a matrix head, as the peer has them.

    Args:
        sizes: of the work.
        name: a gradient-based learner.
        plain: of the hand-made network alone instead of the supernet.
        axis: the mapped axis of the devices that share the tasks, see `devices.py`.
    """
    space, settings = space_of(sizes), {"normalisation": "batch_transductive", "conv": sizes.conv}
    if plain:
        model = make_subnet(space, hand_made(space), sizes.image_shape, **settings).model
    else:
        model = make_supernet(space, sizes.image_shape, **settings)
    return make_learner(
        name, model, optax.adam(1e-3), ways=sizes.ways, head="matrix", inner_steps=sizes.steps, inner_lr=INNER_LR,
        axis=axis,
    )  # fmt: skip


def first_state(learner: MetaLearner) -> MetaState:
    """Return what every work of a learner starts from."""
    return jax.jit(learner.init)(jax.random.key(0))


def meta_step(sizes: Sizes, name: str, *, plain: bool, axis: str | None = None):
    """Return (function, arguments) of one outer step of the hand-made network, in the supernet or on its own."""
    learner, space = learner_of(sizes, name, plain=plain, axis=axis), space_of(sizes)
    masks = jnp.broadcast_to(mask_of(space, hand_made(space)), (sizes.tasks, space.num_slots, space.max_choices))
    return learner.step, (first_state(learner), masks, draw_episodes(sizes))


def one_task(sizes: Sizes):
    """Return (function, arguments) of adapting the hand-made network to one task and predicting its queries."""
    learner, space = learner_of(sizes, plain=True), space_of(sizes)
    episode = jax.tree.map(lambda x: x[0], draw_episodes(sizes))

    def adapt_and_predict(params: Params, mask: Array, episode: Episode) -> Array:
        return learner.solve(params, mask, episode.support_x, episode.support_y, episode.query_x)

    return adapt_and_predict, (first_state(learner).params, mask_of(space, hand_made(space)), episode)


def population(sizes: Sizes, genotypes: Array, *, plain: bool = False, axis: str | None = None):
    """Return (function, arguments) of scoring genotypes [P,E] on every episode."""
    learner = learner_of(sizes, plain=plain)

    def score(params: Params, masks: Array, episodes: Episode) -> Array:
        return evaluate(learner, params, masks, episodes, axis=axis).loss

    return score, (first_state(learner).params, mask_of(space_of(sizes), genotypes), draw_episodes(sizes))


def step_operations(sizes: Sizes, first_order: bool) -> float:
    """Return the floating-point operations of `meta_step`."""
    passes = 3 * sizes.queries + (3 if first_order else 9) * sizes.shots * sizes.steps
    return sizes.tasks * sizes.ways * passes * _pass_operations(sizes, hand_made(space_of(sizes)))


def adapt_operations(sizes: Sizes, genotypes: Array | None = None) -> float:
    """Return the operations of adapting genotypes [P,E] (the hand-made one where None) to one task and predicting."""
    passes = sizes.queries + 3 * sizes.shots * sizes.steps
    genotypes = hand_made(space_of(sizes))[None] if genotypes is None else genotypes
    return sizes.ways * passes * float(np.sum(_pass_operations(sizes, genotypes)))


def _pass_operations(sizes: Sizes, genotypes: Array) -> np.ndarray:
    cost = cost_model(space_of(sizes), sizes.image_shape, "flatten", sizes.ways)
    return 2.0 * np.asarray(cost(jnp.asarray(genotypes)))[..., 1]
