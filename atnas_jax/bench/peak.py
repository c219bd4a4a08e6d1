"""What the machine can do at most: the rate of plain matrix products under XLA."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from atnas_jax.bench.timing import compile_program
from atnas_jax.bench.works import Sizes

REPEATS = 8  # products of one call, so that calling it costs nothing


def gemm(rows: int, inner: int, columns: int) -> tuple[Callable[[], Any], float]:
    """Return a call that computes products [rows,inner] @ [inner,columns], and its floating-point operations."""
    first, second = jax.random.split(jax.random.key(0))
    x, w = jax.random.normal(first, (rows, inner)), jax.random.normal(second, (REPEATS, inner, columns))

    def products(x, w):
        return jax.lax.scan(lambda total, kernel: (total + (x @ kernel).sum(), None), 0.0, w)[0]

    return compile_program(products, (x, w)).run, 2.0 * REPEATS * rows * inner * columns


def square() -> tuple[Callable[[], Any], float]:
    """Return the product that reaches the machine's peak, and its operations."""
    return gemm(1536, 1536, 1536)


def convolution_shaped(sizes: Sizes) -> tuple[Callable[[], Any], float]:
    """Return the product of the second block's 3x3 convolution over all queries of a task, and its operations."""
    side = sizes.image // 2
    return gemm(sizes.ways * sizes.queries * side * side, 9 * sizes.channels, sizes.channels)


def default_device() -> str:
    """Return the platform and kind of the device that everything runs on."""
    device = jnp.zeros(()).devices().pop()
    return f"{device.platform} {device.device_kind}"
