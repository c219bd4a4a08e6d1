"""Meta-transfer learning: after a first training the kernels are frozen, and scales and shifts of them are learned.

Sun et al. 2019, section 4.2: SS(X; W, b) = (W * S1) X + (b + S2), S1 one number for each pair of an input and an output
channel. A convolution here has no bias of its own; b is that of the norm which follows it.
"""

import jax
import jax.numpy as jnp
import optax

from atnas_jax.types import Array, Params, PyTree

_TAPS = {"kernel": 4, "pointwise": 4, "depthwise": 3}  # leaf -> axes from the last to the first of the window
NAME = "scale_shift"


def init_scale_shift(body: Params) -> Params:
    """Return scales 1 and shifts 0 as a pytree like the body, empty [0] where a leaf has neither."""

    def one(path, leaf):
        name = path[-1].key
        if name in _TAPS:
            first = leaf.ndim - _TAPS[name]
            return jnp.ones((*leaf.shape[:first], 1, 1, *leaf.shape[first + 2 :]))
        return jnp.zeros(leaf.shape if name == "bias" else (0,))

    return jax.tree_util.tree_map_with_path(one, body)


def scale_and_shift(body: Params, change: Params) -> Params:
    """Return the body under scales and shifts; at their start it is the body itself."""

    def one(path, leaf, own):
        name = path[-1].key
        return leaf * own if name in _TAPS else leaf + own if name == "bias" else leaf

    return jax.tree_util.tree_map_with_path(one, body, change)


def freeze_after(outer: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """Return the optimiser, which moves the body up to outer step `steps` and scales and shifts from then on.

    Both are differentiated all along, so that the moments of Adam are warm when their turn comes; the head's
    meta-parameters always move.
    """

    def init(params: Params) -> tuple[Array, PyTree]:
        return jnp.zeros((), jnp.int32), outer.init(params)

    def update(updates, state, params):
        updates, inner = outer.update(updates, state[1], params)
        frozen = {"body": state[0] >= steps, NAME: state[0] < steps}
        kept = {
            name: jax.tree.map(lambda u, still=still: jnp.where(still, 0.0, u), updates[name])
            for name, still in frozen.items()
        }
        return updates | kept, (state[0] + 1, inner)

    return optax.GradientTransformation(init, update)
