"""The outcome of a search as one file: weights, population and what is needed to read them; nothing is pickled."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.npz import load_arrays
from atnas_jax.job.config import stored_config
from atnas_jax.job.files import write_arrays
from atnas_jax.job.trial import Trial, trial_from_dict, trial_to_dict
from atnas_jax.space.expected import CostTables, tables_from_dict, tables_to_dict
from atnas_jax.space.slots import SearchSpace
from atnas_jax.space.text import space_from_dict, space_to_dict
from atnas_jax.types import Array, Params

if TYPE_CHECKING:
    from atnas_jax.novel.adapted_network import AdaptedNetwork

FILE = "meta_network.npz"
# name -> file of what comes with the package, each made by the config of the file's name
SHIPPED = {"glyphs-gray": "glyphs_gray.npz", "glyphs-color": "glyphs_color.npz"}
VERSION = 1


class MetaNetwork(NamedTuple):
    """A searched meta-network."""

    params: Params  # meta-parameters, a dict of dicts of float32 arrays
    population: Array  # int32 [P,E], best first
    space: SearchSpace
    image_shape: tuple[int, int, int]  # H, W, C
    normalise: tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation per channel, of x/255
    config: ConfigDict
    latency: CostTables | None = None  # milliseconds, of what search.latency named
    trial: Trial | None = None  # of the search on a support set

    @classmethod
    def load(cls, path: str) -> "MetaNetwork":
        """Read it by name, from its file or from the workdir that holds it, see `load_meta_network`."""
        return load_meta_network(path)

    def adapt(self, images: np.ndarray, labels: Sequence[Any] | np.ndarray, **options: Any) -> "AdaptedNetwork":
        """Adapt to labelled images, see `novel.adapt_to`; `adapt_to(self, images, labels, **options)`."""
        from atnas_jax.novel.novel import adapt_to  # which imports this file

        return adapt_to(self, images, labels, **options)


def save_meta_network(workdir: str, network: MetaNetwork) -> str:
    """Write the meta-network into the workdir, whole or not at all; returns its path."""
    about = {
        "version": VERSION,
        "space": space_to_dict(network.space),
        "image_shape": network.image_shape,
        "normalise": network.normalise,
        "config": network.config.to_dict(),
        "latency": None if network.latency is None else tables_to_dict(network.latency),
        "trial": None if network.trial is None else trial_to_dict(network.trial),
    }
    arrays = {"population": np.asarray(network.population), "about": np.asarray(json.dumps(about))}
    arrays |= {f"params/{name}": np.asarray(leaf) for name, leaf in flatten(network.params).items()}
    path = os.path.join(workdir, FILE)
    write_arrays(path, arrays)
    return path


def load_meta_network(path: str) -> MetaNetwork:
    """Read a meta-network.

    Args:
        path: its file, the workdir that holds it, or the name of one that comes with the package, a key of `SHIPPED`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged or of another version.
    """
    if path in SHIPPED and not os.path.exists(path):
        path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "pretrained", SHIPPED[path])
    path = os.path.join(path, FILE) if os.path.isdir(path) else path
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path} does not exist; a finished launch.search writes {FILE} into its workdir; "
            f"with the package come: {', '.join(SHIPPED)}"
        )
    try:
        arrays = load_arrays(path)
        about = json.loads(str(arrays.pop("about")))
        version = about["version"]
        network = _network(arrays, about) if version == VERSION else None
    except Exception as error:
        raise ValueError(f"{path} is no meta-network or is damaged ({error}); run launch.search again") from error
    if network is None:
        raise ValueError(f"{path} has format {version}; this version of atnas_jax reads {VERSION}")
    return network


def _network(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> MetaNetwork:
    population = jnp.asarray(arrays.pop("population"))
    params = nest({name.removeprefix("params/"): jnp.asarray(value) for name, value in arrays.items()})
    config = stored_config(about["config"])
    mean, deviation = map(tuple, about["normalise"])
    space = space_from_dict(about["space"])
    latency = tables_from_dict(space, about["latency"]) if about.get("latency") else None
    trial = trial_from_dict(about["trial"]) if about.get("trial") else None
    shape, normalise = tuple(about["image_shape"]), (mean, deviation)
    return MetaNetwork(params, population, space, shape, normalise, config, latency, trial)


def flatten(params: Params) -> dict[str, Array]:
    """Return parameters, a dict of dicts, as one dict by names like "body/block0/bias"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in leaves}


def nest(flat: dict[str, Array]) -> dict[str, Any]:
    """Return the parameters that `flatten` was given."""
    tree: dict[str, Any] = {"head": {}}  # a head of zeros has no leaves of its own
    for name, leaf in flat.items():
        *path, last = name.split("/")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[last] = leaf
    return tree
