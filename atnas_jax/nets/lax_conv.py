"""XLA's own convolution, where it is fast: of one kernel."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array


def conv_lax(x: Array, kernel: Array, stride: int, dilation: int, halves: bool = False) -> Array:
    """Return XLA's convolution; with `halves` of bfloat16 numbers, summed in float32."""
    pad = dilation * (kernel.shape[0] // 2)
    given = (v.astype(jnp.bfloat16) for v in (x, kernel)) if halves else (x, kernel)
    return lax.conv_general_dilated(
        *given,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.float32 if halves else None,
    ).astype(x.dtype)


def lax_unless_batched(
    batched: Callable[[Array, Array], Array], x: Array, kernel: Array, stride: int, dilation: int, halves: bool = False
) -> Array:
    """Return `conv_lax` of one kernel; under a vmap over kernels `batched(x, kernel)`, vmapped."""

    @jax.custom_batching.custom_vmap
    def run(x, kernel):
        return conv_lax(x, kernel, stride, dilation, halves)

    @run.def_vmap
    def _(size, is_batched, x, kernel):
        if is_batched[1]:
            return jax.vmap(batched, (0 if is_batched[0] else None, 0))(x, kernel), True
        y = lax_unless_batched(batched, x.reshape(-1, *x.shape[2:]), kernel, stride, dilation, halves)
        return y.reshape(*x.shape[:2], *y.shape[1:]), True

    return run(x, kernel)
