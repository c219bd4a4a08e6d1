"""Predictors against closed forms, an independent encoder, and fitness that they can know."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from atnas_jax.search.pool import Pool
from atnas_jax.search.predictors.base import climb, fit_to, pairwise_accuracy, predict, to_targets, unit
from atnas_jax.search.predictors.kernel import gp, ridge
from atnas_jax.search.predictors.mlp import mlp
from atnas_jax.search.predictors.nao import decode_slots, nao_network
from atnas_jax.search.proposers import make_proposer
from atnas_jax.search.tables import all_genotypes, lookup, planted
from atnas_jax.space.slots import SearchSpace, mask_of

CARDS = (4, 3, 1, 2, 4)
SPACE = SearchSpace("toy", (), tuple("abcde"), tuple(tuple(map(str, range(c))) for c in CARDS))
ALL = jnp.asarray(list(itertools.product(*map(range, CARDS))), jnp.int32)  # 96
EFFECTS = jax.random.normal(jax.random.key(5), (len(CARDS), max(CARDS)))
SMALL = {"embedding": 8, "hidden": 24, "width": 24, "layers": 1, "fit_steps": 400, "batch": 48, "learning_rate": 0.01}
PREDICTORS = {
    "ridge": ridge(SPACE),
    "gp": gp(SPACE),
    "mlp": mlp(SPACE, width=32),
    "nao": nao_network(SPACE, **SMALL),
}
KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("few_optimisations")


def separable(rows):
    """The sum of one effect per slot, [n]."""
    return (mask_of(SPACE, rows) * EFFECTS).sum((-2, -1))


@functools.cache
def fit_of(name):
    return jax.jit(PREDICTORS[name].fit)


@functools.cache
def known(name):
    """A predictor that has seen 60 of the 96 genotypes, scattered over a table whose other rows are junk."""
    order = np.random.default_rng(0).permutation(len(ALL))
    filled = jnp.zeros(len(ALL), bool).at[order[:60]].set(True)
    rows = jnp.where(filled[:, None], ALL, -1)
    fitness = jnp.where(filled, separable(ALL), -jnp.inf)
    fitted = fit_of(name)(KEY, PREDICTORS[name].init(KEY, len(ALL)), rows, fitness, filled)
    return fitted, rows, fitness, filled


@pytest.mark.parametrize("name", PREDICTORS)
def test_orders_what_it_has_not_seen(name):
    fitted, *_, filled = known(name)
    held = ALL[~filled]
    assert float(pairwise_accuracy(predict(PREDICTORS[name], fitted, held), separable(held))) > 0.9


@pytest.mark.parametrize("name", PREDICTORS)
def test_rows_that_are_not_filled_do_not_matter(name):
    fitted, rows, fitness, filled = known(name)
    junk = jnp.where(filled[:, None], rows, ALL[::-1])
    again = fit_of(name)(KEY, PREDICTORS[name].init(KEY, len(ALL)), junk, jnp.where(filled, fitness, 7.0), filled)
    np.testing.assert_allclose(
        predict(PREDICTORS[name], again, ALL), predict(PREDICTORS[name], fitted, ALL), rtol=1e-5, atol=1e-6
    )


def pair_features(rows):
    """One-hot slots and all one-hot pairs of slots, [n,F]."""
    hot = np.asarray(mask_of(SPACE, rows))
    pairs = [
        np.einsum("na,nb->nab", hot[:, i], hot[:, k]).reshape(len(hot), -1)
        for i, k in itertools.combinations(range(hot.shape[1]), 2)
    ]
    return np.concatenate([hot.reshape(len(hot), -1), *pairs], 1)


def test_ridge_is_ridge_regression_on_slots_and_pairs():
    rows, held = ALL[::3], ALL[1::3]
    y = np.asarray(to_targets("rank", separable(rows), jnp.ones(len(rows), bool)))
    features, penalty = pair_features(rows), 0.1 * 5 * 6 / 2  # 15 of the features of a genotype are 1
    inner = features.T @ features + penalty * np.eye(features.shape[1])
    weights = np.linalg.solve(inner, features.T @ (y - y.mean()))
    predictor = ridge(SPACE, penalties=(0.1,))
    fitted = fit_to(KEY, predictor, rows, separable(rows))
    np.testing.assert_allclose(
        predict(predictor, fitted, held), y.mean() + pair_features(held) @ weights, rtol=1e-4, atol=1e-5
    )


def test_gp_is_the_posterior_and_has_no_doubt_where_it_was_told():
    rows, held = ALL[::4], ALL[1::4]
    predictor = gp(SPACE, lengths=(0.5,), noises=(1e-4,))
    fitted = fit_to(KEY, predictor, rows, separable(rows))
    y = np.asarray(to_targets("rank", separable(rows), jnp.ones(len(rows), bool)))

    def covariance(a, b):
        return np.exp(-(np.asarray(a)[:, None] != np.asarray(b)).sum(-1) / (0.5 * 5))

    inverse = np.linalg.inv(covariance(rows, rows) + 1e-4 * np.eye(len(rows)))
    scale = np.sqrt((y - y.mean()) @ inverse @ (y - y.mean()) / len(y))
    across = covariance(held, rows)
    deviation = scale * np.sqrt(1 - np.einsum("ij,jk,ik->i", across, inverse, across))
    codes = predictor.encode(fitted, held)
    np.testing.assert_allclose(predictor.mean(fitted, codes), y.mean() + across @ inverse @ (y - y.mean()), atol=1e-3)
    np.testing.assert_allclose(predictor.deviation(fitted, codes), deviation, rtol=0.01)
    told = predictor.encode(fitted, rows)
    assert float(predictor.deviation(fitted, told).max()) < 0.02 * deviation.min()
    np.testing.assert_allclose(predictor.mean(fitted, told), y, atol=1e-3)


def test_evidence_tells_noise_from_signal():
    predictor, noisy = gp(SPACE, noises=(0.001, 1.0)), jax.random.normal(jax.random.key(2), (len(ALL),))
    signal, noise = (fit_to(KEY, predictor, ALL, fitness) for fitness in (separable(ALL), noisy))
    codes = predictor.encode(signal, ALL)
    assert float(predictor.deviation(signal, codes).max()) < 0.05 * float(signal.scale)
    assert float(predictor.deviation(noise, codes).min()) > 0.2 * float(noise.scale)


def _shapes_factorised(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cholesky":
            yield equation.invars[0].aval.shape
        for inner in jaxprs_in_params(equation.params):
            yield from _shapes_factorised(inner)


@pytest.mark.parametrize("make", [ridge, gp])
def test_no_batch_is_factorised_at_once(make):
    """jaxlib's batched Cholesky can wait for itself for ever where two devices run it (jaxlib 0.10.2)."""
    model = make(SPACE)
    rows, values = jnp.zeros((6, SPACE.num_slots), jnp.int32), jnp.zeros(6)
    fitted = model.init(jax.random.key(0), 6)
    traced = jax.make_jaxpr(model.fit)(jax.random.key(0), fitted, rows, values, values == 0)
    assert list(_shapes_factorised(traced.jaxpr)) == [(6, 6)]


def test_targets_by_hand():
    fitness = jnp.asarray([0.5, -jnp.inf, 0.9, 0.5, 7.0, 0.1])
    filled = jnp.asarray([True, True, True, True, False, True])
    np.testing.assert_allclose(to_targets("rank", fitness, filled), [0.625, 0, 1, 0.625, 0, 0.25])
    np.testing.assert_allclose(to_targets("minmax", fitness, filled), [0.5, 0, 1, 0.5, 0, 0], atol=1e-6)
    for kind, level in (("rank", 0.5), ("minmax", 0.0)):  # nothing finite was told yet
        np.testing.assert_allclose(to_targets(kind, jnp.full(3, -jnp.inf), jnp.ones(3, bool)), level)
        np.testing.assert_allclose(to_targets(kind, fitness, jnp.zeros(6, bool)), 0)


def test_targets_are_an_option():
    fitness = jnp.where(jnp.arange(len(ALL)) == 0, -100.0, separable(ALL))
    means = [predict(p, fit_to(KEY, p, ALL, fitness), ALL)[1:] for p in (gp(SPACE), gp(SPACE, targets="minmax"))]
    # One failure takes the others to the upper end of the linear scale, and leaves ranks as they were.
    assert float(jnp.ptp(means[1])) < 0.2 < 0.8 < float(jnp.ptp(means[0]))


def test_pairwise_accuracy_by_hand():
    fitness = jnp.asarray([1.0, 2.0, 3.0, 3.0])  # 5 pairs differ
    assert float(pairwise_accuracy(jnp.asarray([1.0, 2.0, 3.0, 0.0]), fitness)) == pytest.approx(3 / 5)
    assert float(pairwise_accuracy(jnp.asarray([1.0, 1.0, 3.0, 9.0]), fitness)) == pytest.approx(4.5 / 5)
    assert float(pairwise_accuracy(-fitness, fitness)) == 0


@functools.cache
def climber(name):
    return jax.jit(lambda fitted, rows, eta: climb(PREDICTORS[name], fitted, rows)(eta))


def test_a_climb_follows_the_slope_of_the_ridge():
    fitted, rows, *_ = known("ridge")
    hot, told = np.asarray(mask_of(SPACE, ALL)), np.asarray(mask_of(SPACE, rows))
    agreeing = np.einsum("ceo,neo->cn", hot, told)
    rise = (1 + 2 * agreeing) / (5 * 6) * np.asarray(fitted.weights)  # of m(m+1) / (E(E+1))
    codes = hot + 3 * np.einsum("cn,neo->ceo", rise, told)
    real = np.arange(max(CARDS)) < np.asarray(CARDS)[:, None]
    moved = climber("ridge")(fitted, ALL, 3.0)
    np.testing.assert_array_equal(moved, np.where(real, codes, -np.inf).argmax(-1))
    np.testing.assert_array_equal(climber("ridge")(fitted, ALL, 0.0), ALL)


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_climb_leads_up(name):
    fitted, rows, fitness, filled = known(name)
    worst = rows[jnp.lexsort((fitness, ~filled))[:20]]
    gain = (separable(climber(name)(fitted, worst, 10.0)) - separable(worst)).mean()
    assert float(gain) > float(separable(ALL).std())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encoded_by_loops(params, genotype):
    """The encoder of one genotype from its equations, step by step."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["encoder"])
    h, c = np.zeros((2, len(p["state"])))
    codes = []
    for slot, choice in enumerate(genotype):
        gates = np.asarray(params["embed"])[slot, choice] @ p["input"] + h @ p["state"] + p["b"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        codes.append(h / np.linalg.norm(h))
    return np.stack(codes)


def test_nao_encodes_as_its_equations_say():
    predictor, params = PREDICTORS["nao"], known("nao")[0]
    codes = np.asarray(predictor.encode(params, ALL[:40]))
    np.testing.assert_allclose(codes[37], encoded_by_loops(params, np.asarray(ALL[37])), atol=1e-5)
    e = codes[37].mean(0)
    x = e / np.linalg.norm(e)
    for layer in params["predictor"][:-1]:
        x = np.maximum(x @ layer["w"] + layer["b"], 0)
    last = params["predictor"][-1]
    np.testing.assert_allclose(predictor.mean(params, codes)[37], sigmoid(x @ last["w"] + last["b"])[0], rtol=1e-4)


def test_nao_decodes_what_it_was_trained_on():
    fitted, rows, _, filled = known("nao")
    again = np.asarray(climber("nao")(fitted, jnp.where(filled[:, None], rows, 0), 0.0))
    assert (again == np.asarray(rows)).all(-1)[filled].mean() > 0.97


def test_nao_on_a_planted_table():
    """The twin of NAS-Bench-201's known answers: 200 random genotypes of 6 slots of 5, 20 new ones by one ascent."""
    table = planted(jax.random.key(7), (5,) * 6)
    rows = jnp.asarray(np.random.default_rng(0).permutation(all_genotypes(table.space))[:700], jnp.int32)
    told, held, values = rows[:200], rows[200:], lookup(table, rows)
    network = nao_network(
        table.space, **SMALL | {"embedding": 16, "hidden": 32, "width": 32, "batch": 100, "fit_steps": 250}
    )
    fitted = jax.jit(lambda: fit_to(KEY, network, told, values[:200]))()
    assert float(pairwise_accuracy(predict(network, fitted, held), values[200:])) >= 0.72
    assert float((climb(network, fitted, held)(0.0) != held).sum(-1).mean()) <= 0.6
    assert float((climb(network, fitted, told)(0.0) == told).all(-1).mean()) >= 0.99
    pool = Pool(told, values[:200], jnp.ones(200, bool))
    propose = jax.jit(make_proposer("ascent", table.space, network, parents=0.34))
    new = lookup(table, propose(KEY, fitted, pool, rows[680:]))
    assert float(new.mean()) >= float(values[:200].mean() + 2 * values[:200].std())
    assert float(new.max()) >= float(values[:200].max())


def test_the_decoder_is_a_distribution_over_genotypes():
    predictor = PREDICTORS["nao"]
    params = predictor.init(jax.random.key(3), 1)
    codes = jnp.tile(unit(jax.random.normal(KEY, (1, 5, SMALL["hidden"]))), (len(ALL), 1, 1))
    likelihood = decode_slots(SPACE, params, codes, ALL)[1]
    np.testing.assert_allclose(jnp.exp(likelihood).sum(), 1, rtol=1e-5)
    many = predictor.decode(params, unit(jax.random.normal(KEY, (300, 5, SMALL["hidden"]))))
    assert np.all((many >= 0) & (many < np.asarray(CARDS)))


def test_the_tradeoff_says_what_is_trained():
    predictor = nao_network(SPACE, **SMALL | {"fit_steps": 2, "weight_decay": 0.0, "tradeoff": 1.0})
    before = predictor.init(KEY, 4)
    after = predictor.fit(KEY, before, ALL[:4], jnp.arange(4.0), jnp.ones(4, bool))
    moved = {
        name: any(np.any(a != b) for a, b in zip(jax.tree.leaves(before[name]), jax.tree.leaves(after[name])))
        for name in before
    }
    assert moved == {name: name in ("embed", "encoder", "predictor") for name in before}


def test_equivalent_encodings_are_learned_as_one():
    """Two choices of slot 0, which are far apart elsewhere in these tests, are two names of one; one is never told."""
    told, twin = int(EFFECTS[0].argmax()), int(EFFECTS[0].argmin())

    def both(rows):
        return jnp.stack([rows, rows.at[:, 0].set(jnp.where(rows[:, 0] == told, twin, rows[:, 0]))], 1)

    rows, of_both = ALL[ALL[:, 0] != twin], both(ALL[ALL[:, 0] == told])
    predictor = nao_network(SPACE, **SMALL, equivalents=both)
    fitted = jax.jit(lambda rows: fit_to(KEY, predictor, rows, separable(rows)))(rows)

    def gap(fitted):
        return float(
            jnp.abs(predict(predictor, fitted, of_both[:, 0]) - predict(predictor, fitted, of_both[:, 1])).mean()
        )

    assert gap(fitted) < 0.05
    assert gap(known("nao")[0]) > 0.3


@pytest.mark.parametrize(
    ("make", "options", "word"),
    [
        (gp, {"targets": "log"}, "allowed: rank, minmax"),
        (gp, {"noises": ()}, "number of penalties or noises=0"),
        (gp, {"lengths": (0.0,)}, "smallest of lengths=0.0"),
        (ridge, {"penalties": (-1.0,)}, "smallest of penalties or noises=-1.0"),
        (mlp, {"width": 0}, "width=0"),
        (mlp, {"targets": "log"}, "allowed: rank, minmax"),
        (nao_network, {"tradeoff": 2}, "tradeoff=2"),
        (nao_network, {"hidden": 0}, "hidden=0"),
        (nao_network, {"targets": "log"}, "allowed: rank, minmax"),
    ],
)
def test_bad_options_are_one_line(make, options, word):
    with pytest.raises(ValueError, match=word) as error:
        make(SPACE, **options)
    assert "\n" not in str(error.value)


def test_a_pool_of_one_row_is_enough_to_fit():
    fitted = fit_to(KEY, PREDICTORS["gp"], ALL[:1], jnp.asarray([0.5]))
    assert np.isfinite(predict(PREDICTORS["gp"], fitted, ALL)).all()
