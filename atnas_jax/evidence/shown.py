"""What pictures of a meta-test need, `meta_test.npz`: the architectures chosen, a few episodes with predictions."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.devices import AXIS, map_rows
from atnas_jax.evidence.choose import episodes_of
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.files import write_arrays
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.processes import by_first
from atnas_jax.job.state import RunState
from atnas_jax.meta.average import evaluated
from atnas_jax.space.slots import mask_of
from atnas_jax.types import Array

FILE = "meta_test.npz"
EPISODES = 3  # the first ones, so that nobody has picked them
WAYS, SHOTS, QUERIES = 10, 5, 8  # classes, and images of each, that are kept at most


def write_shown(
    workdir: str,
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    chosen: dict[str, np.ndarray],
    clock: dict[str, float],
) -> None:
    """Predict the first meta_test episodes once more and write them, whole or not at all.

    The file holds `chosen/ROW` int32 [episodes,E] for every row that chooses; of the first `EPISODES` episodes `row`,
    the one whose architectures predict, `genotypes` int32 [n,E], `support` uint8 [n,N,K,H,W,C], `query` uint8
    [n,N,q,H,W,C], `predicted` int32 [n,N,q], and `accuracy` float32 [n] over all query images.

    Args:
        workdir, config, parts, state: of the run.
        chosen: genotypes int32 [episodes,E] or [episodes,G,E], the last of G, of the rows that choose for each episode.
        clock: gets the seconds of compilation, see `compiled`.
    """
    number, test = min(EPISODES, config.protocol.episodes), config.protocol
    chosen = {name: rows.reshape(len(rows), -1, rows.shape[-1])[:, -1] for name, rows in chosen.items()}
    row = "adapted" if "adapted" in chosen else "best"
    genotypes = chosen[row][:number] if row in chosen else np.tile(state.best, (number, 1))
    predict = compiled(_predictor(config, parts), clock, mesh=parts.mesh, quickly=True)  # three episodes, once
    support, query, predicted = predict(evaluated(state.meta), genotypes, jnp.arange(number), parts.dataset.table)
    predicted = np.asarray(predicted).reshape(number, test.ways, test.queries)
    right = predicted == np.arange(test.ways)[:, None]  # queries are laid out class by class, as supports are
    arrays = {
        "row": np.asarray(row),
        "genotypes": np.asarray(genotypes),
        "accuracy": right.mean((1, 2), dtype=np.float32),
        "predicted": predicted[:, :WAYS, :QUERIES],
        "support": _by_class(support, test.ways)[:, :WAYS, :SHOTS],
        "query": _by_class(query, test.ways)[:, :WAYS, :QUERIES],
    }
    arrays |= {f"chosen/{name}": np.asarray(rows) for name, rows in chosen.items()}
    by_first(write_arrays, os.path.join(workdir, FILE), arrays, compressed=True)


def _predictor(config: ConfigDict, parts: Parts):
    learner = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)

    def predict(params, genotypes, index, table):
        def one(pair):
            mask, episode = pair
            logits = learner.solve(params, mask, episode.support_x, episode.support_y, episode.query_x)
            return jnp.argmax(logits, -1).astype(jnp.int32)

        raw = fixed_episodes(
            parts.dataset.fingerprint, "meta_test", config.protocol.seed, index, table, parts.test_spec,
            rotations=config.protocol.rotations,
        )  # fmt: skip
        pictures = jax.tree.map(lambda x: jnp.round(255 * x).astype(jnp.uint8), (raw.support_x, raw.query_x))
        episodes = episodes_of(config, parts, index, table)
        return *pictures, map_rows(one, (mask_of(parts.space, genotypes), episodes), axis=AXIS)

    return predict


def _by_class(images: Array, ways: int) -> np.ndarray:
    images = np.asarray(images)
    return images.reshape(len(images), ways, -1, *images.shape[2:])
