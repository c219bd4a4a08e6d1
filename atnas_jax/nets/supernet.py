"""The factory of masked supernets: any space in, a `Model` out."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from atnas_jax.nets.blockwise import blockwise_chain
from atnas_jax.nets.cell import CellSupernet
from atnas_jax.nets.chain import ChainSupernet
from atnas_jax.nets.conv import check_implementation
from atnas_jax.nets.norm import check_normalisation
from atnas_jax.space.cell import cell_resolutions
from atnas_jax.space.chain import chain_resolutions
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Model, Params, PyTree, Reference

EXECUTIONS = ("switch", "folded")
READOUTS = ("flatten", "mean")
DTYPES = ("float32", "bfloat16")


def embed(x: Array, readout: str) -> Array:
    """Turn the last feature map [n,h,w,C] into an embedding: "flatten" [n,h*w*C] or "mean" [n,C]."""
    return x.reshape(x.shape[0], -1) if readout == "flatten" else x.mean((1, 2))


def cast_to(dtype: str) -> Callable[[PyTree], PyTree]:
    """Return arrays -> arrays of `dtype`, of "float32" the same ones."""
    return (lambda tree: tree) if dtype == "float32" else partial(jax.tree.map, lambda leaf: leaf.astype(dtype))


def in_dtype(apply: Callable[..., Array], dtype: str) -> Callable[..., Array]:
    """Return apply(params, x, mask, reference) computed in `dtype`; float32 parameters in, float32 embedding out.

    Normalisation statistics stay in float32, see `nets/norm.py`.
    """
    if dtype == "float32":
        return apply

    def cast(params: Params, x: Array, mask: Array | None = None, reference: Reference = None) -> Array:
        return apply(*cast_to(dtype)((params, x, mask)), reference).astype(jnp.float32)

    return cast


def check_names(normalisation: str, readout: str, conv: str, execution: str = "switch", dtype: str = "float32") -> None:
    """Raise ValueError unless all five are known."""
    check_normalisation(normalisation)
    check_implementation(conv)
    for name, value, known in (
        ("execution", execution, EXECUTIONS),
        ("readout", readout, READOUTS),
        ("dtype", dtype, DTYPES),
    ):
        if value not in known:
            raise ValueError(f"net.{name}={value!r} is unknown; choose one of {', '.join(known)}")


def check_last_pool(space: SearchSpace, image_shape: tuple[int, int, int], readout: str) -> None:
    """Raise ValueError where a choice of a last pool has nothing to pool, or is no choice to a mean over the image."""
    if space.family != "chain" or not space.spec.last_pool:
        return
    if readout != "flatten":
        raise ValueError(f"net.readout={readout!r} leaves space.chain.last_pool no choice; take 'flatten', or False")
    if chain_resolutions(space.spec, *image_shape[:2])[-1] == (1, 1):
        raise ValueError(
            f"space.chain.last_pool finds a map of 1x1, to which images of {image_shape[0]}x{image_shape[1]} come "
            "down; take fewer strides of 2, such as (2, 2, 2, 1), or False"
        )


def check_maps(
    space: SearchSpace, image_shape: tuple[int, int, int], normalisation: str, blocks: int | None = None
) -> None:
    """Raise ValueError where an "instance" norm would see maps of one pixel, which are then the same for all images.

    Args:
        space, image_shape, normalisation: as of `make_supernet`.
        blocks: the first ones of a chain that count; None: all.
    """
    if normalisation != "instance":
        return
    resolutions = {"chain": chain_resolutions, "cell": cell_resolutions}[space.family]
    maps = resolutions(space.spec, *image_shape[:2])
    if space.family == "chain":  # where a block that pools normalises what it is given
        maps = (maps[:-1] if space.spec.downsample == "pool" else maps[1:])[:blocks]
    if (1, 1) in maps:
        raise ValueError(
            f"net.normalisation 'instance' leaves nothing of a map of 1x1, to which images of {image_shape[0]}x"
            f"{image_shape[1]} come down; take 'support', larger images or fewer strides of 2"
        )


def _module(space: SearchSpace, normalisation: str, execution: str, conv: str) -> nn.Module:
    family = {"chain": ChainSupernet, "cell": CellSupernet}[space.family]
    return family(spec=space.spec, normalisation=normalisation, execution=execution, implementation=conv)


def make_activations(
    space: SearchSpace, *, normalisation: str = "support", execution: str = "switch", conv: str = "auto"
) -> Callable[[Params, Array, Array], tuple[tuple[Array, Array], ...]]:
    """Return activations(params, x, mask, reference=None), see `Model`, -> per ReLU layer (values, channels there [C]).

    Values [n,h,w,C] are those after the ReLU and, where a block pools, after the pool, which commutes. A block that is
    inactive has no channel there. The ReLUs at the inputs of a cell see what a ReLU has passed, so but for that of the
    stem they are not given again. A last pool comes after all of them, so that they say nothing of it.

    Args: as in `make_supernet`; computed in the dtype of the parameters.
    """
    check_names(normalisation, "mean", conv, execution)
    module = _module(space, normalisation, execution, conv)

    def activations(
        params: Params, x: Array, mask: Array, reference: Reference = None
    ) -> tuple[tuple[Array, Array], ...]:
        kept = module.apply({"params": params}, x, mask, reference, mutable=["intermediates"])[1]
        return kept["intermediates"]["relus"]

    return activations


def make_supernet(
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    *,
    normalisation: str = "support",
    readout: str = "flatten",
    execution: str = "switch",
    conv: str = "auto",
    dtype: str = "float32",
) -> Model:
    """Return the masked supernet of a space.

    Args:
        space: a chain or cell space.
        image_shape: (H, W, C) of the images.
        normalisation: see `nets/norm.py`; "none" leaves scale and bias alone, which proxies want and training does not.
        readout: "flatten" or "mean", how the last feature map becomes the embedding.
        execution: "switch" runs one branch a block and needs one-hot, unbatched masks (loop over genotypes); "folded"
            takes any mask, batched or relaxed, at the price of one convolution of the largest extent.
        conv: see `nets/conv.py`.
        dtype: what the body computes in, "float32" or "bfloat16"; parameters, embedding and head are float32.

    Returns:
        Model with init(key) and apply(params, x, mask, reference=None).

    Raises:
        ValueError: an unknown name, or maps that are too small for the normalisation.
    """
    check_names(normalisation, readout, conv, execution, dtype)
    check_last_pool(space, image_shape, readout)
    check_maps(space, image_shape, normalisation)
    module = _module(space, normalisation, execution, conv)
    mask_shape = (space.num_slots, space.max_choices)

    def init(key: Array) -> Params:
        return module.init(key, jnp.zeros((1, *image_shape)), jnp.ones(mask_shape))["params"]

    def apply(params: Params, x: Array, mask: Array, reference: Reference = None) -> Array:
        return embed(module.apply({"params": params}, x, mask, reference), readout)

    def features(key: Array) -> Array:
        return apply(init(key), jnp.zeros((1, *image_shape)), jnp.ones(mask_shape))

    length = jax.eval_shape(features, jax.random.key(0)).shape[-1]
    blockwise = None
    if space.family == "chain" and execution == "switch":  # whose masks are one-hot: of mixtures none begin alike
        blockwise = blockwise_chain(module, lambda x: embed(x, readout), cast_to(dtype))
    return Model(init, in_dtype(apply, dtype), normalisation, length, blockwise)
