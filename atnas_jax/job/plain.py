"""Weights of a supernet that are to train one genotype alone start as those of its plain network would."""

import math

import jax
import numpy as np

from atnas_jax.space.chain import DEPTH_SLOT, chain_resolutions, pooled_size, pools_last, width_slot
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Params


def as_plain(space: SearchSpace, genotype: np.ndarray, params: Params, image_shape: tuple[int, int, int]) -> Params:
    """Return fresh meta-parameters of the supernet, distributed for one genotype as those of its plain network are.

    A narrower network has fewer inputs and a shorter embedding, by which weights are divided when they are drawn; one
    that pools last has a shorter embedding too. The widest that does not keeps its parameters to the bit.

    Args:
        space: of the supernet.
        genotype: int32 [E], concrete.
        params: of the learner, as they were drawn.
        image_shape: (H, W, C) of the images.
    """
    if space.family != "chain":
        return params  # all of one width
    widest, genes = space.spec.widths[-1], np.asarray(genotype)
    widths = [space.spec.widths[genes[width_slot(b)]] for b in range(space.spec.depths[genes[DEPTH_SLOT]])]
    body = dict(params["body"])
    for block, width in enumerate(widths[:-1], start=1):
        if width == widest:
            continue
        gain = (widest / width) ** 0.5
        body[f"block{block}"] = jax.tree_util.tree_map_with_path(
            lambda path, leaf, gain=gain: leaf * gain if path[-1].key in ("kernel", "pointwise") else leaf,
            body[f"block{block}"],
        )
    share = widest / widths[-1]
    if pools_last(space.spec, genes):
        size = chain_resolutions(space.spec, *image_shape[:2])[-1]
        share *= math.prod(size) / math.prod(pooled_size(size))
    if share == 1:
        return params | {"body": body}
    longer = {"log_temperature": lambda leaf: leaf + 0.5 * math.log(share)}
    longer |= dict.fromkeys(("w", "v"), lambda leaf: leaf * share**0.5)
    head = {name: longer[name](leaf) if name in longer else leaf for name, leaf in params["head"].items()}
    return params | {"body": body, "head": head}
