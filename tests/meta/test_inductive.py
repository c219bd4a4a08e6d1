"""An inductive figure is truly inductive: on the whole supernet a query's logits do not move when other queries do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.norm import NORMALISATIONS, is_transductive
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of, random_genotypes

WAYS, SHOTS, QUERIES, IMAGE = 3, 2, 4, (8, 6, 1)
SPACE = chain_space(ChainSpec((("conv3", "max3"), ("sep3", "identity")), (4, 8), (2,), (2, 2), "pool"))

pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.mark.parametrize("name", ["maml", "anil"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_query_stands_alone_unless_the_normalisation_says_otherwise(name, normalisation):
    model = make_supernet(SPACE, IMAGE, normalisation=normalisation)
    learner = make_learner(name, model, optax.sgd(0.1), ways=WAYS, inner_steps=2, inner_lr=0.1)
    rng = np.random.default_rng(0)
    support, queries, others = (
        rng.normal(size=(n, *IMAGE)).astype(np.float32) for n in (WAYS * SHOTS, QUERIES, QUERIES)
    )
    others = 3 * others + 1
    others[0] = queries[0]
    mask = mask_of(SPACE, random_genotypes(jax.random.key(0), SPACE, 1)[0])
    labels = jnp.repeat(jnp.arange(WAYS), SHOTS)

    @jax.jit
    def logits(params, query_x):
        return learner.solve(params, mask, support, labels, query_x)

    params = jax.tree.map(lambda leaf: leaf + 0.1, learner.init(jax.random.key(1)).params)
    first, second = logits(params, queries), logits(params, others)
    assert np.abs(first[1:] - second[1:]).max() > 1e-2
    moved = np.abs(first[0] - second[0]).max()
    assert moved > 1e-2 if is_transductive(normalisation) else moved == 0.0
