"""Padding of episodes: with it a learner does what it does without, and what lies in it makes no difference at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of, random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")
N, K, Q, IMAGE, MORE = 3, 2, 4, (8, 7, 1), 3
CHAIN = chain_space(ChainSpec((("conv3", "sep3"), ("conv3", "identity"), ("sep3", "max3")), (4, 8), (2, 3), (2, 2, 1)))
CELL = cell_space(CellSpec(("conv3", "identity", "max3"), 2, 2, (1,), 3))
NETS = {
    "support": {},
    "mean": {"readout": "mean", "execution": "folded"},
    "tasknorm": {"normalisation": "tasknorm"},
    "instance": {"normalisation": "instance", "readout": "flatten"},
    "bfloat16": {"dtype": "bfloat16"},
}


def learners(name, space, net, **options):
    """Return the learner of N ways and that of more, which leaves padding out."""
    model = make_supernet(space, IMAGE, **NETS[net])
    options = {"inner_steps": 2, "inner_lr": 0.1} | options
    made = {"ways": N} | options, {"ways": N if options.get("head") == "matrix" else N + MORE, "padded": True} | options
    return [make_learner(name, model, optax.sgd(0.1), **one) for one in made]


@pytest.fixture(scope="module")
def episode(noisy_episodes):
    return jax.tree.map(lambda leaf: leaf[0], noisy_episodes(1, N, K, Q, IMAGE, 1.5))


def padded(episode, images):
    """The episode with padding of these images behind support and queries."""
    fill = jnp.full(len(images), -1)
    more = [jnp.concatenate([own, behind]) for own, behind in zip(episode, (images, fill, images, fill), strict=True)]
    return type(episode)(*more)


@pytest.mark.parametrize(
    ("name", "space", "net", "options"),
    [
        ("maml", CHAIN, "support", {}),
        ("maml", CELL, "mean", {"head": "zeros"}),
        ("maml", CHAIN, "tasknorm", {"step_rates": True, "step_norms": True, "head": "vector"}),
        ("maml", CHAIN, "support", {"head": "matrix", "inner_optimiser": "adam"}),
        ("maml", CHAIN, "bfloat16", {}),
        ("maml", CELL, "tasknorm", {"tolerance": 0.05, "inner_steps": 30}),
        ("boil", CHAIN, "support", {"head": "matrix"}),
        ("meta_sgd", CHAIN, "instance", {}),
        ("reptile", CHAIN, "support", {"head": "vector", "inner_optimiser": "momentum"}),
        ("anil", CHAIN, "support", {}),
        ("mtl", CHAIN, "tasknorm", {"inner_steps": 0}),
    ],
)
def test_padding_changes_nothing(name, space, net, options, episode):
    plain, other = learners(name, space, net, **options)
    start = {key: value for key, value in options.items() if key != "tolerance"}
    params = jax.jit(learners(name, space, net, **start)[0].init)(jax.random.key(0)).params
    mask = mask_of(space, random_genotypes(jax.random.key(2), space, 1)[0])
    expected = jax.jit(plain.solve)(params, mask, *episode[:3])
    solve = jax.jit(other.solve)
    blank, noisy = (
        padded(episode, images)
        for images in (jnp.zeros((5, *IMAGE)), 9 * jax.random.normal(jax.random.key(1), (5, *IMAGE)))
    )
    found = solve(params, mask, *blank[:3])
    # The scores of the queries, the padding behind them left out.
    share, other_share = jax.nn.softmax(expected), jax.nn.softmax(found[: N * Q])
    tolerance = 0.05 if net == "bfloat16" else 2e-5
    np.testing.assert_allclose(other_share[:, :N], share, atol=tolerance)
    assert share.max() - share.min() > 0.05 and not other_share[:, N:].any()
    np.testing.assert_array_equal(solve(params, mask, *noisy[:3])[: N * Q], found[: N * Q])

    def apart(params, mask, episode):
        adapted = other.adapt(params, mask, episode.support_x, episode.support_y)
        return other.predict(adapted, mask, episode.support_x, episode.query_x, episode.support_y >= 0)

    np.testing.assert_allclose(
        jax.nn.softmax(jax.jit(apart)(params, mask, blank)[: N * Q]), other_share, atol=tolerance
    )


def test_queries_that_would_be_normalised_by_padding_are_refused():
    model = make_supernet(CHAIN, IMAGE, normalisation="batch_transductive")
    with pytest.raises(ValueError, match="'batch_transductive' would see padding; give padded=False"):
        make_learner("maml", model, optax.sgd(0.1), ways=N, padded=True)
