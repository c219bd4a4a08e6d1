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
from atnas_jax.nets.blockwise import block_kinds
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.prefixes import score_tree, tree_of
from atnas_jax.race import halving, race
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import DEPTH_SLOT, ChainSpec, chain_space, op_slot
from atnas_jax.space.equivalents import canonical
from atnas_jax.space.slots import mask_of, random_genotypes
from atnas_jax.types import Blockwise, BlockwiseSolve, Episode, MetaLearner

pytestmark = pytest.mark.usefixtures("few_optimisations")
T, N, K, Q, IMAGE = 3, 3, 2, 4, (8, 7, 1)
SCALE = 1000.0  # so that no loss of the blocks that are counted is lost in rounding
OPS = (("conv3", "conv5"), ("conv3", "sep3", "max3", "identity"), ("sep3", "identity"))
SPACES = {
    "plain": chain_space(ChainSpec(OPS, (3, 6), (1, 2, 3), (2, 2, 1))),
    "pools": chain_space(ChainSpec(OPS, (4,), (2, 3), (2, 1, 1), "pool", residual=True, last_pool=True)),
    "elastic": chain_space(ChainSpec(OPS, (3, 6), (2, 3), (2, 2, 1), elastic_kernel=True)),
}


def beginnings(kinds):
    """Count the different beginnings of each length, by sets."""
    return [len({tuple(row[: b + 1]) for row in kinds.tolist()}) for b in range(kinds.shape[1])]


@pytest.fixture(scope="module")
def episodes(noisy_episodes):
    return noisy_episodes(T, N, K, Q, IMAGE, 1.5)


def learner_of(space, name="anil", head="prototypes", inner_steps=2, tolerance=0.0, **net):
    model, loop = make_supernet(space, IMAGE, **net), {"inner_steps": inner_steps, "tolerance": tolerance}
    return make_learner(name, model, optax.sgd(0.1), ways=N, head=head, inner_lr=0.1, **loop)


def shaken(params):
    """Biases and scales that are not those of the start."""
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return form.unflatten(moved)


def population(space, number=12):
    """Random genotypes, the third and the eighth of which differ beyond their depth alone."""
    rows = np.array(random_genotypes(jax.random.key(1), space, number))
    rows[8, DEPTH_SLOT] = 0
    rows[3] = rows[8]
    rows[3, op_slot(len(OPS) - 1)] = 1 - rows[8, op_slot(len(OPS) - 1)]
    return rows


@pytest.mark.parametrize(
    ("space", "name", "head", "net"),
    [
        *(("plain", "anil", head, {}) for head in HEADS),
        ("elastic", "anil", "zeros", {"normalisation": "instance", "inner_steps": 20, "tolerance": 0.05}),
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
        for own in (learner, learner._replace(blockwise=None))
    )
    tolerance = 0.05 if "dtype" in net else 1e-5
    np.testing.assert_allclose(shared.loss, alone.loss, rtol=tolerance)
    np.testing.assert_allclose(shared.accuracy, alone.accuracy, atol=1.01 / (N * Q) if "dtype" in net else 1e-6)
    assert len(np.unique(np.asarray(alone.loss).round(4))) > 2 * T
    assert (masks[3] != masks[8]).any()
    np.testing.assert_array_equal(shared.loss[3], shared.loss[8])


def test_members_alone_meet_the_episodes_asked_for_to_the_bit_on_any_number_of_devices(episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    masks, member = mask_of(space, population(space)), np.arange(12) % 3 > 0

    def run(params, masks, episodes, member):
        return score_tree(learner, params, masks, episodes, member, 1, 3, AXIS)

    alone = jax.jit(lambda *args: evaluate(learner._replace(blockwise=None), *args))(params, masks, episodes)
    asked, found = member[:, None] & (np.arange(T) >= 1), []
    for devices in (1, 2, 4):
        program = jax.jit(on_mesh(run, make_mesh(devices)))
        found.append(program(params, masks, episodes, member))
        one = np.arange(12) == 5  # on two episodes, which is fewer than four devices
        for members in (one, np.zeros(12, bool)):
            right, loss = program(params, masks, episodes, members)
            np.testing.assert_array_equal(loss, np.where(members[:, None], found[-1][1], 0))
            np.testing.assert_array_equal(right, np.where(members[:, None], found[-1][0], 0))
    right, loss = found[0]
    np.testing.assert_allclose(right, np.where(asked, alone.accuracy, 0), atol=1e-6)
    np.testing.assert_allclose(loss, np.where(asked, alone.loss, 0), rtol=1e-5)
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])


def counted(kinds, devices=1, member=None):
    """Return how often each block ran, by a learner whose blocks write down that they do, and the loss [P]."""
    ran, blocks = collections.Counter(), kinds.shape[1]

    def block(number):
        def run(prepared, value, mask, reference):
            jax.debug.callback(lambda: ran.update([number]))
            return 10 * value + mask[0, number]

        return run

    def solve(params, value, support_y):
        return jnp.stack([value / SCALE, jnp.zeros(())])[None]

    body = Blockwise(
        prepare=lambda params: params, start=lambda x: x.sum(), blocks=tuple(map(block, range(blocks))),
        embed=None, kinds=lambda masks: masks[:, 0].astype(jnp.int32),
    )  # fmt: skip
    learner = MetaLearner(None, None, None, None, None, BlockwiseSolve(body, solve))
    zeros = jnp.zeros((1, 1), jnp.int32)
    episode = Episode(jnp.zeros((1, 1, 1, 1, 1)), zeros, jnp.zeros((1, 1, 1, 1, 1)), zeros)
    member = np.ones(len(kinds), bool) if member is None else member

    def run(masks, episode, member):
        return score_tree(learner, {}, masks, episode, member, 0, 1, AXIS)

    masks = jnp.asarray(kinds, jnp.float32)[:, None]
    loss = jax.block_until_ready(jax.jit(on_mesh(run, make_mesh(devices)))(masks, episode, member))[1]
    jax.effects_barrier()
    return [ran[number] for number in range(blocks)], np.asarray(loss)[:, 0]


def expected_loss(kinds):
    return np.log1p(np.exp(-(kinds @ 10.0 ** np.arange(kinds.shape[1] - 1, -1, -1)) / SCALE))


def test_each_beginning_is_computed_once():
    kinds = np.random.default_rng(0).integers(0, 3, (40, 4))
    ran, loss = counted(kinds)
    assert ran == beginnings(kinds) and ran[0] == 3 and ran[-1] < 40
    np.testing.assert_allclose(loss, expected_loss(kinds), rtol=1e-5)
    assert len(np.unique(loss)) == ran[-1]
    some = np.arange(40) % 4 == 0
    assert counted(kinds, member=some)[0] == beginnings(kinds[some])


def test_a_population_of_one_is_scored():
    ran, loss = counted(np.asarray([[0, 2, 1]]))
    assert ran == [1, 1, 1]
    np.testing.assert_allclose(loss, expected_loss(np.asarray([[0, 2, 1]])), rtol=1e-5)


def test_devices_compute_again_what_lies_between_them_alone():
    kinds = np.random.default_rng(1).integers(0, 3, (40, 4))
    ran, _ = counted(kinds, devices=2)
    assert all(0 <= both - one <= 1 for both, one in zip(ran, beginnings(kinds), strict=True))


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


def test_weights_that_are_not_finite_spoil_those_alone_who_have_them(episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    params["body"]["block1"]["conv3"]["kernel"] *= np.nan
    rows = population(space)
    found = jax.jit(lambda *args: evaluate(learner, *args))(params, mask_of(space, rows), episodes)
    spoiled = (np.asarray(space.spec.depths)[rows[:, DEPTH_SLOT]] > 1) & (rows[:, op_slot(1)] == 0)
    assert 0 < spoiled.sum() < len(rows)
    assert (np.isnan(found.loss).all(1) == spoiled).all() and (np.isfinite(found.loss).all(1) == ~spoiled).all()
    assert not np.asarray(found.accuracy)[spoiled].any()


def test_a_race_drops_whom_it_would_drop_alone(episodes):
    space = SPACES["plain"]
    learner = learner_of(space)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    masks, worth = mask_of(space, population(space)), jnp.linspace(1.0, 0.5, 12)
    rungs, order = halving(12, T), np.random.default_rng(0).permutation(12).astype(np.int32)
    for given in (None, worth):
        shared, alone = (
            jax.jit(lambda *args, own=own, by=given: race(own, *args, worth=by))(params, masks, episodes, order, rungs)
            for own in (learner, learner._replace(blockwise=None))
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


def test_where_nothing_is_shared_there_are_no_blocks():
    space = SPACES["plain"]
    assert learner_of(space).blockwise is not None
    for name in ("maml", "fomaml", "boil", "reptile"):
        assert learner_of(space, name).blockwise is None
    assert learner_of(space, normalisation="batch_transductive").blockwise is None
    assert learner_of(space, execution="folded").blockwise is None  # whose masks may be mixtures
    assert learner_of(cell_space(CellSpec(("conv3", "max3"), 2, 1, (), 4))).blockwise is None
    subnet = make_subnet(space, np.zeros(space.num_slots, int), IMAGE)
    assert make_learner("anil", subnet.model, optax.sgd(0.1), ways=N).blockwise is None
