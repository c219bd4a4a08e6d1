"""Genotypes that begin alike: what they share is computed once, and all are scored as each would be alone."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.devices import AXIS, make_mesh, on_mesh
from atnas_jax.evaluate import evaluate
from atnas_jax.meta.heads import HEADS
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.staged import block_kinds
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.prefixes import score_tree, tree_of
from atnas_jax.race import halving, race
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.equivalents import canonical
from atnas_jax.space.slots import mask_of, random_genotypes
from atnas_jax.types import Episode, MetaLearner, Staged, StagedSolve

pytestmark = pytest.mark.usefixtures("few_optimisations")
T, N, K, Q, IMAGE = 3, 3, 2, 4, (8, 7, 1)
OPS = (("conv3", "conv5"), ("conv3", "sep3", "max3", "identity"), ("sep3", "identity"))
SPACES = {
    "plain": chain_space(ChainSpec(OPS, (3, 6), (1, 2, 3), (2, 2, 1))),
    "pools": chain_space(ChainSpec(OPS, (4,), (2, 3), (2, 1, 1), "pool", residual=True, last_pool=True)),
}


def depth_first(kinds):
    """Count the different beginnings of each length, by sets."""
    return [len({tuple(row[: b + 1]) for row in kinds.tolist()}) for b in range(kinds.shape[1])]


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(T, N, *IMAGE))
    fields = []
    for shots in (K, Q):
        labels = np.tile(np.repeat(np.arange(N), shots), (T, 1)).astype(np.int32)
        images = np.take_along_axis(centres, labels[:, :, None, None, None], 1)
        fields += [(images + 1.5 * rng.normal(size=images.shape)).astype(np.float32), labels]
    return Episode(*map(jnp.asarray, fields))


def learner_of(space, name="anil", head="prototypes", **net):
    model = make_supernet(space, IMAGE, **net)
    return make_learner(name, model, optax.sgd(0.1), ways=N, head=head, inner_steps=2, inner_lr=0.1)


def shaken(params):
    """Biases and scales that are not those of the start."""
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return form.unflatten(moved)


def population(space, number=12):
    """Random genotypes, one of them twice, and one that differs in a block beyond its depth alone."""
    rows = np.array(random_genotypes(jax.random.key(1), space, number))
    rows[3] = rows[8]
    return rows


@pytest.mark.parametrize(
    ("space", "name", "head", "net"),
    [
        *(("plain", "anil", head, {}) for head in HEADS),
        ("pools", "mtl", "prototypes", {}),
        ("pools", "anil", "prototypes", {"normalisation": "tasknorm", "readout": "flatten"}),
        ("plain", "anil", "prototypes", {"dtype": "bfloat16"}),
    ],
)
def test_a_tree_scores_as_each_genotype_alone(space, name, head, net, episodes):
    space = SPACES[space]
    learner = learner_of(space, name, head, **net)
    params = shaken(jax.jit(learner.init)(jax.random.key(0)).params)
    masks = mask_of(space, population(space))
    shared, alone = (
        jax.jit(lambda *args, own=own: evaluate(own, *args))(params, masks, episodes)
        for own in (learner, learner._replace(staged=None))
    )
    tolerance = 0.05 if "dtype" in net else 1e-5
    np.testing.assert_allclose(shared.loss, alone.loss, rtol=tolerance)
    np.testing.assert_allclose(shared.accuracy, alone.accuracy, atol=1.01 / (N * Q) if "dtype" in net else 1e-6)
    assert len(np.unique(np.asarray(alone.loss).round(4))) > 2 * T
    np.testing.assert_array_equal(shared.loss[3], shared.loss[8])


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_members_alone_meet_the_episodes_asked_for_on_any_number_of_devices(devices, episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    masks, member = mask_of(space, population(space)), np.arange(12) % 3 > 0

    def run(params, masks, episodes, member):
        return score_tree(learner, params, masks, episodes, member, 1, 3, AXIS)

    right, loss = jax.jit(on_mesh(run, make_mesh(devices)))(params, masks, episodes, member)
    alone = jax.jit(lambda *args: evaluate(learner._replace(staged=None), *args))(params, masks, episodes)
    asked = member[:, None] & (np.arange(T) >= 1)
    np.testing.assert_allclose(right, np.where(asked, alone.accuracy, 0), atol=1e-6)
    np.testing.assert_allclose(loss, np.where(asked, alone.loss, 0), rtol=1e-5)
    nobody = jax.jit(on_mesh(run, make_mesh(devices)))(params, masks, episodes, np.zeros(12, bool))
    assert not np.asarray(nobody[0]).any() and not np.asarray(nobody[1]).any()


def counted(kinds, devices=1, member=None):
    """Return how often each stage ran, by a learner whose stages write down that they do, and the loss [P,1]."""
    ran, stages = collections.Counter(), kinds.shape[1]

    def stage(number):
        def run(prepared, value, mask, reference):
            jax.debug.callback(lambda: ran.update([number]))
            return 10 * value + mask[0, number]

        return run

    def solve(params, value, support_y):
        return jnp.stack([value, jnp.zeros(())])[None]

    body = Staged(
        prepare=lambda params: params, start=lambda x: x.sum(), stages=tuple(map(stage, range(stages))),
        embed=None, kinds=lambda masks: masks[:, 0].astype(jnp.int32),
    )  # fmt: skip
    learner = MetaLearner(None, None, None, None, None, StagedSolve(body, solve))
    zeros = jnp.zeros((1, 1), jnp.int32)
    episode = Episode(jnp.zeros((1, 1, 1, 1, 1)), zeros, jnp.zeros((1, 1, 1, 1, 1)), zeros)
    member = np.ones(len(kinds), bool) if member is None else member

    def run(masks, episode, member):
        return score_tree(learner, {}, masks, episode, member, 0, 1, AXIS)

    masks = jnp.asarray(kinds, jnp.float32)[:, None]
    loss = jax.block_until_ready(jax.jit(on_mesh(run, make_mesh(devices)))(masks, episode, member))[1]
    jax.effects_barrier()
    return [ran[number] for number in range(stages)], np.asarray(loss)[:, 0]


def test_each_beginning_is_computed_once():
    kinds = np.random.default_rng(0).integers(0, 3, (40, 4))
    ran, loss = counted(kinds)
    assert ran == depth_first(kinds) and ran[0] == 3 and ran[-1] < 40
    values = kinds @ 10.0 ** np.arange(3, -1, -1)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-values)), rtol=1e-4, atol=1e-6)
    some = np.arange(40) % 4 == 0
    assert counted(kinds, member=some)[0] == depth_first(kinds[some])


def test_a_population_of_one_is_scored():
    ran, loss = counted(np.asarray([[0, 2, 1]]))
    assert ran == [1, 1, 1]
    np.testing.assert_allclose(loss, np.log1p(np.exp(-21.0)), atol=1e-6)


def test_devices_compute_again_what_lies_between_them_alone():
    kinds = np.random.default_rng(1).integers(0, 3, (40, 4))
    ran, _ = counted(kinds, devices=2)
    assert all(0 <= both - one <= 1 for both, one in zip(ran, depth_first(kinds), strict=True))


def test_a_tree_is_sorted_and_ends_where_the_next_beginning_starts():
    kinds = np.asarray([[1, 2], [0, 5], [1, 1], [0, 5], [1, 2], [0, 4]])
    order, ends = tree_of(jnp.asarray(kinds), jnp.asarray([True, True, True, True, True, False]))
    assert order.tolist() == [1, 3, 2, 0, 4, 5]
    assert ends.tolist() == [[2, 2, 5, 5, 5, 6], [2, 2, 3, 5, 5, 6]]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_kinds_are_the_same_where_networks_are(space):
    rows = np.asarray(random_genotypes(jax.random.key(2), space, 300))
    kinds = np.asarray(block_kinds(space.spec, jnp.asarray(rows)))
    whole, networks = np.unique(kinds, axis=0), np.unique(canonical(space, rows), axis=0)
    assert len(whole) == len(networks) > 20
    assert len(np.unique(np.concatenate([kinds, canonical(space, rows)], 1), axis=0)) == len(whole)


def test_a_race_drops_whom_it_would_drop_alone(episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    masks, worth = mask_of(space, population(space)), jnp.linspace(1.0, 0.5, 12)
    rungs, order = halving(12, T), np.random.default_rng(0).permutation(12).astype(np.int32)
    for given in (None, worth):
        shared, alone = (
            jax.jit(lambda *args, own=own, by=given: race(own, *args, worth=by))(params, masks, episodes, order, rungs)
            for own in (learner, learner._replace(staged=None))
        )
        np.testing.assert_allclose(shared[0], alone[0], atol=1e-6)
        np.testing.assert_array_equal(shared[1], alone[1])
        np.testing.assert_array_equal(shared[2], alone[2])


def test_memory_does_not_grow_with_the_population(episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params

    def scratch(number):
        masks = mask_of(space, random_genotypes(jax.random.key(1), space, number))
        program = jax.jit(lambda *args: evaluate(learner, *args).loss).lower(params, masks, episodes).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert scratch(256) - scratch(4) < 256 * 4 * (space.num_slots * space.max_choices + 64)


def test_where_nothing_is_shared_there_are_no_stages():
    space = SPACES["plain"]
    assert learner_of(space).staged is not None
    for name in ("maml", "fomaml", "boil", "reptile"):
        assert learner_of(space, name).staged is None
    assert learner_of(space, normalisation="batch_transductive").staged is None
    assert learner_of(space, execution="folded").staged is None  # whose masks may be mixtures
    assert learner_of(cell_space(CellSpec(("conv3", "max3"), 2, 1, (), 4))).staged is None
    subnet = make_subnet(space, np.zeros(space.num_slots, int), IMAGE)
    assert make_learner("anil", subnet.model, optax.sgd(0.1), ways=N).staged is None
