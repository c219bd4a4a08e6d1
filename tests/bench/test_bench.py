"""The benchmark does the work that it counts, its peer does the same work, and the command runs."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from atnas_jax.bench import works
from atnas_jax.bench.works import INNER_LR, SEVEN_OPS, Sizes
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import hand_made

SMALL = Sizes(tasks=2, queries=2, steps=2, channels=4, image=8, depth=2, population=6)

pytestmark = pytest.mark.usefixtures("few_optimisations")


def test_operations_are_those_of_mamls_network_counted_by_hand():
    pixels = [28 * 28 * 9 * 32] + [side * side * 9 * 32 * 32 for side in (14, 7, 3)]
    one_pass = 2 * (sum(pixels) + 32 * 5)
    assert works.adapt_operations(Sizes()) == one_pass * (75 + 3 * 5 * 5)
    assert works.step_operations(Sizes(), True) == 16 * one_pass * 3 * (75 + 5 * 5)
    assert works.step_operations(Sizes(), False) == 16 * one_pass * (3 * 75 + 9 * 5 * 5)


@pytest.mark.parametrize("name", ["maml", "fomaml"])
@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_the_peer_has_our_gradient(name, downsample):
    peers = pytest.importorskip("atnas_jax.bench.torch_peer")
    pytest.importorskip("torch", reason="torch is not installed: no peer to compare with")
    sizes = SMALL._replace(downsample=downsample)
    space = works.space_of(sizes)
    model = make_supernet(space, sizes.image_shape, normalisation="batch_transductive")
    learner = make_learner(
        name, model, optax.sgd(1.0), ways=5, head="matrix", inner_steps=sizes.steps, inner_lr=INNER_LR
    )
    state = jax.jit(learner.init)(jax.random.key(0))
    _, (_, masks, episodes) = works.meta_step(sizes, name, plain=False)
    after, _ = jax.jit(learner.step)(state, masks, episodes)
    ours = jax.tree.map(lambda a, b: np.asarray(a - b), state.params, after.params)
    peer = peers.Peer(sizes, state.params)
    for step in (peer.meta_step(name == "fomaml"), peer.meta_step_vmap(name == "fomaml")):
        theirs = step()
        for mine, other in (
            (ours["body"]["block0"]["conv3"]["kernel"], theirs["0.kernel"].permute(2, 3, 1, 0)),
            (ours["body"]["block1"]["norm"]["scale"], theirs["1.scale"]),
            (ours["head"]["w"], theirs["w"]),
        ):
            np.testing.assert_allclose(mine, other.numpy(), atol=2e-5 * np.abs(mine).max() + 1e-7)


def test_the_peer_has_our_losses_of_a_population():
    peers = pytest.importorskip("atnas_jax.bench.torch_peer")
    torch = pytest.importorskip("torch", reason="torch is not installed: no peer to compare with")
    sizes = SMALL._replace(ops=SEVEN_OPS)
    genotypes = works.draw_genotypes(sizes)
    score, (params, masks, episodes) = works.population(sizes, genotypes)
    found = peers.Peer(sizes, params).population(genotypes)()
    labels = [torch.tensor(np.asarray(y)).long() for y in episodes.query_y]
    losses = [[torch.nn.functional.cross_entropy(x, y) for x, y in zip(row, labels)] for row in found]
    np.testing.assert_allclose(jax.jit(score)(params, masks, episodes), losses, atol=1e-5)


def test_the_plain_net_does_the_same_as_the_supernet():
    genotypes = hand_made(works.space_of(SMALL))[None]
    score, args = works.population(SMALL, genotypes)
    plain, (_, masks, episodes) = works.population(SMALL, genotypes, plain=True)
    np.testing.assert_allclose(jax.jit(score)(*args), jax.jit(plain)(args[0], masks, episodes), atol=1e-5)


def test_the_command(repo, tmp_path):
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "launch.benchmark", "--suite=all", "--small", "--rounds=2", f"--out={out}",
         f"--plot={tmp_path / 'growth.png'}"],
        cwd=repo, capture_output=True, text=True, timeout=500,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True", "JAX_NUM_CPU_DEVICES": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert {row["suite"] for row in record["rows"]} == {"train", "adapt", "population", "growth"}
    for row in record["rows"]:
        assert row["seconds"] > 0 and row["gflops"] > 0 and 0 < row["share_of_gemm"]
    assert (tmp_path / "growth.png").stat().st_size > 1000
