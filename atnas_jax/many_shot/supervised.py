"""Plain supervised training on a whole data set, of the supernet under a mask and of a plain network alike."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from atnas_jax.job.outer import is_kernel
from atnas_jax.meta.heads import logits_of, make_head
from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.rng import stream
from atnas_jax.types import Array, Model, Params, PyTree

CHUNK = 128  # images predicted together


class Labelled(NamedTuple):
    """Images of one part of a data set."""

    x: Array  # float32 [n,H,W,C], normalised
    y: Array  # int32 [n]


class Parted(NamedTuple):
    """A data set in three parts; no image, nor a copy of it, is in two."""

    train: Labelled
    valid: Labelled
    test: Labelled
    reference: Labelled  # images of train whose statistics normalise what is predicted


class Training(NamedTuple):
    """Where a training stands."""

    params: Params  # {"body", "head": {"w", "b"}}
    moments: PyTree  # of the optimiser
    step: Array  # int32 []


class Supervised(NamedTuple):
    """Pure functions of one model.

    start(body, log_temperature, mask, data) -> Training, the head being the prototypes of the reference
    advance(training, mask, data, steps, total, seed) -> Training, after `steps` more of `total`
    score(params, mask, data, part) -> accuracy and loss, float32 [] each, of a `Labelled`
    """

    start: Callable[..., Training]
    advance: Callable[..., Training]
    score: Callable[..., tuple[Array, Array]]


def split_rows(images: np.ndarray, labels: np.ndarray, shares: tuple[float, float], seed: int) -> list[np.ndarray]:
    """Return the rows of train, valid and test, int [n] each, drawn class by class; equal images stay together.

    Args:
        images: uint8 [n,H,W,C].
        labels: int [n].
        shares: of valid and test.
        seed: of the draw.

    Raises:
        ValueError: a class has too few distinct images for all three.
    """
    first, group = np.unique(images.reshape(len(images), -1), axis=0, return_index=True, return_inverse=True)[1:]
    order = np.argsort(first)  # by first appearance, so that what an image shows does not move the others
    first, group = first[order], np.argsort(order)[group.reshape(-1)]
    part_of, rng = np.zeros(len(first), int), np.random.default_rng(seed)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels[first] == label))
        valid, test = (max(1, round(share * len(members))) for share in shares)
        if len(members) < valid + test + 1:
            raise ValueError(f"class {label} has {len(members)} distinct images; train, valid and test need 3 or more")
        part_of[members[:valid]], part_of[members[valid : valid + test]] = 1, 2
    return [np.flatnonzero(part_of[group] == part) for part in range(3)]


def part_data(
    images: np.ndarray, labels: np.ndarray, normalise: tuple, config: ConfigDict, seed: int
) -> tuple[Parted, list[np.ndarray]]:
    """Return the data set in parts, and the rows int [n] of train, valid, test and reference.

    Args:
        images: uint8 [n,H,W,C].
        labels: int [n], in 0..N-1.
        normalise: mean and deviation per channel, of x/255.
        config: settings of specialise: valid, test, reference.
        seed: of the split.

    Raises:
        ValueError: as of `split_rows`.
    """
    rows = split_rows(images, labels, (config.valid, config.test), seed)
    # As many of each class as there may be: the prototypes need all of them.
    ways, drawn = int(labels.max()) + 1, np.random.default_rng(seed).permutation(rows[0])
    each = -(-config.reference // ways)
    rows.append(np.concatenate([drawn[labels[drawn] == label][:each] for label in range(ways)]))
    mean, deviation = (np.asarray(value, np.float32) for value in normalise)

    def part(chosen):
        x = (images[chosen].astype(np.float32) / 255 - mean) / deviation
        return Labelled(jnp.asarray(x), jnp.asarray(labels[chosen], jnp.int32))

    return Parted(*map(part, rows)), rows


def make_supervised(model: Model, ways: int, config: ConfigDict) -> Supervised:
    """Return how to train and score a model; its normalisation takes a batch of training images for a support.

    Args:
        model: a supernet, or a plain subnet, which ignores the mask.
        ways: N.
        config: settings of specialise: batch, rate, weight_decay.
    """
    head = make_head("prototypes", ways)
    optimiser = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(config.weight_decay, is_kernel))

    def start(body: Params, log_temperature: Array, mask: Array, data: Parted) -> Training:
        features = model.apply(body, data.reference.x, mask, None)
        params = {
            "body": body,
            "head": head.build({"log_temperature": log_temperature}, features, data.reference.y, ways),
        }
        return Training(params, optimiser.init(params), jnp.zeros((), jnp.int32))

    def loss(params, mask, x, y):
        return cross_entropy(logits_of(params["head"], model.apply(params["body"], x, mask, None)), y)

    def advance(training: Training, mask: Array, data: Parted, steps: Array, total: Array, seed: Array) -> Training:
        def one(_, now):
            key = stream(jax.random.key(seed), "batch", now.step)
            rows = jax.random.randint(key, (config.batch,), 0, len(data.train.y))
            gradient = jax.grad(loss)(now.params, mask, data.train.x[rows], data.train.y[rows])
            updates, moments = optimiser.update(gradient, now.moments, now.params)
            rate = -0.5 * config.rate * (1 + jnp.cos(jnp.pi * now.step / total))  # cosine (Loshchilov & Hutter 2017)
            params = optax.apply_updates(now.params, jax.tree.map(lambda update: rate * update, updates))
            return Training(params, moments, now.step + 1)

        return jax.lax.fori_loop(0, steps, one, training)

    def score(params: Params, mask: Array, data: Parted, part: Labelled) -> tuple[Array, Array]:
        rows, number = len(data.reference.y), len(part.y)
        chunks = jnp.arange(-(-number // CHUNK) * CHUNK).reshape(-1, CHUNK) % number

        def one(chunk):
            both = jnp.concatenate([data.reference.x, part.x[chunk]])
            return logits_of(params["head"], model.apply(params["body"], both, mask, rows)[rows:])

        logits = jax.lax.map(one, chunks).reshape(chunks.size, -1)[:number]
        return accuracy(logits, part.y), cross_entropy(logits, part.y)

    return Supervised(start, advance, score)
