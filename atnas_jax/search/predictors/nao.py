"""The encoder, predictor and decoder of Neural Architecture Optimization (Luo et al. 2018, arXiv 1808.07233).

Written from its equations, for genotypes of slots: each slot has a vocabulary of its own, so the decoder needs no
grammar but the number of choices. x_t is the choice in slot t.

    encoder    h_1..h_E = LSTM(embed(x_1)..embed(x_E)), each of length 1;  e = normalise(mean_t h_t)
    predictor  f = sigmoid(MLP(e))
    decoder    s_t = LSTM(embed'(x_{t-1}), s_{t-1}), s_0 = (e, e);  c_t = sum_i softmax_i(s_t . h_i) h_i
               p(x_t) = softmax(W_t tanh(V [s_t, c_t])) over the choices of slot t
    loss       lam * mean (f - y)^2 - (1 - lam) * mean log p(x)
"""

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_range
from atnas_jax.search.predictors.base import Equivalents, Predictor, check_targets, to_targets, unit
from atnas_jax.search.predictors.training import Scale, adam, dense, gaussian, minimise, perceptron, squashed
from atnas_jax.space.slots import SearchSpace, choice_mask
from atnas_jax.types import Array, Params

CLIP = 5.0


def nao_network(
    space: SearchSpace,
    *,
    embedding: int = 32,
    hidden: int = 64,
    width: int = 100,
    layers: int = 3,
    fit_steps: int = 500,
    batch: int = 100,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    tradeoff: float = 0.8,
    targets: str = "rank",
    equivalents: Equivalents | None = None,
) -> Predictor:
    """Return NAO's networks, trained together; its codes are the encoder's outputs h [c,E,hidden].

    Published: embedding 32 or 48, hidden 96, MLP of 3 layers of 100 or 200, dropout 0.1, batch 100, Adam 1e-3, 1000
    epochs a round, tradeoff 0.8. Here a smaller network learns faster, without dropout, and as well on NAS-Bench-201.
    A refit goes on from the last one's parameters.

    Args:
        space: of the genotypes.
        embedding: length of the vector of a choice.
        hidden: D, state of both LSTMs.
        width, layers: hidden layers of the predictor.
        fit_steps: steps of Adam per fit.
        batch: rows of a step.
        learning_rate, weight_decay: of Adam.
        tradeoff: lam above, from 0 (the decoder alone) to 1 (the predictor alone).
        targets: see `base.to_targets`; "minmax" is the published one.
        equivalents: int32 [n,E] -> int32 [n,A,E], encodings of the same networks; a row of a step takes one at random.

    Raises:
        ValueError: a number out of range, or unknown targets.
    """
    check_targets(targets)
    check_range("tradeoff", tradeoff, 0, 1)
    for name, value in (("embedding", embedding), ("hidden", hidden), ("width", width), ("layers", layers)):
        check_range(name, value, 1, None)
    for name, value in (("fit_steps", fit_steps), ("batch", batch)):
        check_range(name, value, 1, None)

    def init(key: Array, n: int) -> Params:
        vocabulary = (space.num_slots, space.max_choices)
        scales = {
            "embed": Scale((*vocabulary, embedding), 1.0),
            "encoder": _lstm_scales(embedding, hidden),
            "predictor": perceptron((hidden, *(width,) * layers, 1)),
            "embed_again": Scale((*vocabulary, embedding), 1.0),
            "decoder": _lstm_scales(embedding, hidden),
            "attention": dense(2 * hidden, hidden, 1.0),
            "output": Scale((*vocabulary, hidden), hidden**-0.5),
        }
        return gaussian(key, scales)

    def fit(key: Array, fitted: Params, genotypes: Array, fitness: Array, filled: Array) -> Params:
        goal = to_targets(targets, fitness, filled)
        same = genotypes[:, None] if equivalents is None else equivalents(genotypes)
        # One row per encoding, so that a minibatch draws networks and their encodings alike at random.
        copies = same.shape[1]
        same, goal = same.reshape(-1, space.num_slots), jnp.repeat(goal, copies)

        def loss(params: Params, rows: Array) -> Array:
            codes = encode(params, same[rows])
            error = jnp.square(mean(params, codes) - goal[rows]).mean()
            return tradeoff * error - (1 - tradeoff) * log_likelihood(params, codes, same[rows]).mean()

        optimiser, filled = adam(learning_rate, fit_steps, weight_decay, CLIP), jnp.repeat(filled, copies)
        return minimise(key, loss, fitted, filled, steps=fit_steps, batch=batch, optimiser=optimiser)

    def log_likelihood(params: Params, codes: Array, genotypes: Array) -> Array:
        return decode_slots(space, params, codes, genotypes)[1]

    def encode(params: Params, genotypes: Array) -> Array:
        return encode_slots(params, genotypes)

    def mean(params: Params, codes: Array) -> Array:
        return squashed(params["predictor"], unit(codes.mean(1)))

    def decode(params: Params, codes: Array) -> Array:
        return decode_slots(space, params, codes, None)[0]

    return Predictor(init, fit, encode, mean, decode, None)


def encode_slots(params: Params, genotypes: Array) -> Array:
    """Return h float32 [c,E,D] of genotypes int32 [c,E]."""
    inputs = jax.vmap(lambda table, column: table[column], (0, 1))(params["embed"], jnp.maximum(genotypes, 0))
    start = jnp.zeros((2, genotypes.shape[0], params["encoder"]["state"].shape[0]))

    def step(state: Array, x: Array) -> tuple[Array, Array]:
        state = _lstm(params["encoder"], state, x)
        return state, state[0]

    return unit(jnp.moveaxis(jax.lax.scan(step, start, inputs)[1], 0, 1))


def decode_slots(space: SearchSpace, params: Params, codes: Array, forced: Array | None) -> tuple[Array, Array]:
    """Return the likeliest choices int32 [c,E], slot by slot, and float32 [c], the log-likelihood of what was fed back.

    Fed back are the `forced` int32 [c,E] (teacher forcing), or else the choices themselves.
    """
    e = unit(codes.mean(1))
    attention = params["attention"]

    def step(carry: tuple[Array, Array], slot: tuple) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state, x = carry
        output, embed, real, given = slot
        state = _lstm(params["decoder"], state, x)
        weights = jax.nn.softmax(jnp.einsum("cd,ced->ce", state[0], codes))
        context = jnp.einsum("ce,ced->cd", weights, codes)
        seen = jnp.tanh(jnp.concatenate([state[0], context], -1) @ attention["w"] + attention["b"])
        logits = jnp.where(real, seen @ output.T, -jnp.inf)
        choice = jnp.argmax(logits, -1).astype(jnp.int32)
        fed = choice if given is None else jnp.maximum(given, 0)
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), fed[:, None], -1)[:, 0]
        return (state, embed[fed]), (choice, likelihood)

    start = jnp.stack([e, e]), jnp.zeros((e.shape[0], params["embed_again"].shape[-1]))
    given = None if forced is None else forced.T
    slots = (params["output"], params["embed_again"], jnp.asarray(choice_mask(space)), given)
    choices, likelihoods = jax.lax.scan(step, start, slots)[1]
    return choices.T, likelihoods.sum(0)


def _lstm_scales(inputs: int, hidden: int) -> dict[str, Scale]:
    """Return the scales of a long short-term memory, gates in the order in, forget, new, out."""
    deviation = (3 * hidden) ** -0.5  # of the usual uniform distribution within 1/sqrt(hidden)
    gates = 4 * hidden
    return {
        "input": Scale((inputs, gates), deviation),
        "state": Scale((hidden, gates), deviation),
        "b": Scale((gates,), 0.0),
    }


def _lstm(params: Params, state: Array, x: Array) -> Array:
    """Return the next (output, memory) float32 [2,c,D] after inputs x [c,embedding]."""
    gates = x @ params["input"] + state[0] @ params["state"] + params["b"]
    into, keep, new, out = jnp.split(gates, 4, -1)
    memory = jax.nn.sigmoid(keep) * state[1] + jax.nn.sigmoid(into) * jnp.tanh(new)
    return jnp.stack([jax.nn.sigmoid(out) * jnp.tanh(memory), memory])
