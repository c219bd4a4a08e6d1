"""The rank check: what it chooses, what it compares, and that what is kept is not computed again."""

import json
import shutil

import numpy as np
import pytest

from atnas_jax.job.build import build
from atnas_jax.novel.meta_network import load_meta_network, save_meta_network
from atnas_jax.space.equivalents import canonical, distinct
from atnas_jax.space.text import to_text
from atnas_jax.study import rank_measure
from atnas_jax.study.journal import read, remembered
from atnas_jax.study.rank_check import JOURNAL, chosen, compared, rank_check
from atnas_jax.study.rank_measure import Check, recipe
from atnas_jax.study.rank_report import rank_table, write_rank_check

CHECK = Check(genotypes=4, steps=4, seeds=2, repeated=3, population=2, episodes=5, tune=2)


def _row(number, alone, supernet, params):
    one = {"error": 0.01, "loss": 0.0}
    return {
        "genotype": f"g{number}", "params": params, "macs": 7,
        "supernet": one | {"accuracy": supernet, "loss": -params},
        "proxies": {"naswot": None if number == 0 else float(number)}, "alone": [one | {"accuracy": a} for a in alone],
    }  # fmt: skip


def test_a_planted_order_is_found():
    """Ten genotypes: the supernet swaps two neighbours of 45 pairs, params run backwards, macs are all the same."""
    order = [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]
    rows = [_row(i, [0.5 + 0.01 * i, 0.5 + 0.011 * i], 0.1 * order[i], 100 - i) for i in range(10)]
    found = compared(rows)
    tau = {name: row["tau"] for name, row in found["predictors"].items()}
    assert tau == {"supernet": pytest.approx(43 / 45), "supernet_loss": pytest.approx(-1), "params": pytest.approx(-1),
                   "macs": None, "naswot": pytest.approx(1)}  # fmt: skip
    assert found["predictors"]["supernet"]["precision"] == 1.0 and found["top"] == 1
    assert found["predictors"]["params"]["ahead"]["tau"] == pytest.approx(43 / 45 + 1)
    assert found["ceiling"]["tau"] == pytest.approx(1) and found["ceiling"]["genotypes"] == 10


def test_the_truth_is_of_the_seeds_that_all_have_and_the_ceiling_of_those_that_have_more():
    second = [0.3, 0.2, 0.1]  # the second seed says the contrary
    rows = [_row(i, [0.1 * (i + 1), *second[i : i + 1]], 0.1 * i, i) for i in range(6)]
    found = compared(rows)
    assert found["predictors"]["supernet"]["tau"] == found["predictors"]["supernet"]["tau_one_seed"] == pytest.approx(1)
    assert found["ceiling"]["tau"] == pytest.approx(-1) and found["ceiling"]["genotypes"] == 3
    assert compared([row | {"alone": row["alone"][:1]} for row in rows])["ceiling"] is None


def test_what_is_chosen_are_different_networks(tiny):
    config = tiny()
    parts = build(config)
    space = parts.space  # depth, then op and width of each of two blocks
    same = np.asarray([[0, 1, 1, 2, 1], [0, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], np.int32)
    np.testing.assert_array_equal(canonical(space, distinct(space, same)), [[0, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
    found, members = chosen(config, parts, same, Check(genotypes=12, population=3))
    assert members == 2 and len(np.unique(found, axis=0)) == 12
    np.testing.assert_array_equal(found[:2], canonical(space, distinct(space, same)))
    fewer, _ = chosen(config, parts, same, Check(genotypes=8))
    np.testing.assert_array_equal(fewer, chosen(config, parts, same, Check(genotypes=12))[0][:8])  # a prefix
    limited = tiny({"search.max_params": int(np.median(np.asarray(parts.cost(found))[:, 0]))})
    kept, _ = chosen(limited, parts, same, Check(genotypes=4))
    assert (np.asarray(parts.cost(kept))[:, 0] <= limited.search.max_params).all()
    with pytest.raises(ValueError, match="genotypes=40, but 28 different networks"):
        chosen(config, parts, same, Check(genotypes=40))
    with pytest.raises(ValueError, match="population=5"):
        chosen(config, parts, same, Check(genotypes=4, population=5))


def test_a_recipe_is_of_training_alone(tiny):
    """The search and what teaches the supernet leave it as it is; learner, space, steps and data do not."""
    parts = build(tiny())
    own = recipe(tiny(), parts, CHECK)
    for changes in (
        {"search.sampler": "uniform"},
        {"train.warmup": 0.5},
        {"train.distill": 1.0},
        {"seed": 3},
        {"protocol.rotations": True},
    ):
        assert recipe(tiny(changes), parts, CHECK) == own, changes
    for changes in ({"learner.inner_lr": 0.2}, {"train.outer_lr": 0.2}, {"space.chain.widths": (4, 6)}):
        assert recipe(tiny(changes), parts, CHECK) != own, changes
    for changes in ({"train.mirrors": True}, {"train.alike": True}, {"space.chain.last_pool": True}):
        assert recipe(tiny(changes), parts, CHECK) != own, changes
    assert recipe(tiny({"learner.tolerance": 0.1}), parts, CHECK) != own
    assert recipe(tiny(), parts, CHECK._replace(steps=5)) != own
    assert recipe(tiny(), parts, CHECK._replace(population=0, proxies=False, seeds=9)) == own


def test_a_journal_computes_once_and_survives_a_cut_line(tmp_path):
    path, calls = str(tmp_path / "rows.jsonl"), []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    for name, value in (("a", 1), ("b", 2), ("a", 1), ("b", 2)):
        assert remembered(path, {"name": name, "seed": 0}, compute) == {"name": name, "seed": 0, "value": value}
    assert remembered(path, {"name": "a", "seed": 1}, compute)["value"] == 3
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text[:-5])  # as a killed process leaves it
    assert [row["value"] for row in read(path)] == [1, 2]
    assert remembered(path, {"name": "a", "seed": 1}, compute)["value"] == 4 and len(read(path)) == 3
    with open(path, "a") as file:
        file.write("no json\n")
    with pytest.raises(ValueError, match="damaged line"):
        read(path)


@pytest.fixture(scope="module")
def checked(short, tmp_path_factory):
    """A rank check of the short run: its folder and record."""
    out = tmp_path_factory.mktemp("rank")
    return out, rank_check(short.workdir, str(out), CHECK, quiet=True)


def test_a_check_measures_what_it_says(short, checked):
    out, record = checked
    rows, network = record["genotypes"], load_meta_network(short.workdir)
    best = to_text(network.space, canonical(network.space, np.asarray(network.population))[0])
    assert rows[0]["genotype"] == best and [row["origin"] for row in rows] == ["population"] * 2 + ["random"] * 2
    assert [len(row["alone"]) for row in rows] == [2, 2, 2, 1]
    assert set(record["predictors"]) == {
        "supernet",
        "supernet_loss",
        "tuned",
        "params",
        "macs",
        "naswot",
        "grad_norm",
        "synflow",
    }
    assert rows[0]["alone"][0] != rows[0]["alone"][1]
    assert record["ceiling"]["genotypes"] == 3 and record["steps"] == 4
    # Eight steps of a shared net, then two of its own, and four from scratch: all learn the patterns above chance.
    assert min(row[name]["accuracy"] for row in rows for name in ("supernet", "tuned")) > 1 / 3
    kinds = [row["kind"] for row in read(str(out / JOURNAL))]
    assert {kind: kinds.count(kind) for kind in kinds} == {"supernet": 4, "tuned": 4, "proxies": 4, "alone": 7}


def test_a_second_start_computes_nothing(short, checked, tmp_path, monkeypatch):
    out, record = checked
    before = (out / JOURNAL).read_bytes()

    def never(*_):
        raise AssertionError("computed again")

    for name in ("scored", "by_training", "by_tuning", "by_proxies"):
        monkeypatch.setattr(rank_measure, name, never)
    moved = str(shutil.copy(short.config.data.source, tmp_path))
    found = rank_check(short.workdir, str(out), CHECK, source=moved, quiet=True)
    assert found == record  # "source" is what the table says, npz:tiny.npz
    assert (out / JOURNAL).read_bytes() == before
    with pytest.raises(AssertionError, match="computed again"):
        rank_check(short.workdir, str(out), CHECK._replace(steps=2), quiet=True)


def test_a_killed_check_ends_as_if_nothing_had_happened(short, checked, tmp_path):
    """The last of the journal is gone, and half of the line before."""
    out, record = checked
    lines = (out / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(lines[:-2]) + lines[-2][:30])
    assert rank_check(short.workdir, str(tmp_path), CHECK, quiet=True) == record
    assert sorted((tmp_path / JOURNAL).read_text().splitlines(True)) == sorted(lines)


def test_the_command(command, short, checked):
    out, record = checked
    flags = [f"--{name}={value}" for name, value in CHECK._asdict().items()]
    done = command("rank_check", f"--workdir={short.workdir}", f"--out={out}", "--quiet", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == rank_table(record) + "\n" == (out / "rank_check.txt").read_text()
    assert json.loads((out / "rank_check.json").read_text()) == record
    assert (out / "rank_check.png").read_bytes()[:4] == b"\x89PNG"
    done = command("rank_check", f"--workdir={out}", f"--out={out}")
    assert (done.returncode, done.stdout) == (2, "") and "holds no finished search" in done.stderr


def test_a_table_without_second_seeds(checked, tmp_path):
    rows = [row | {"alone": row["alone"][:1]} for row in checked[1]["genotypes"]]
    record = checked[1] | compared(rows) | {"genotypes": rows, "seeds": 1}
    write_rank_check(str(tmp_path), record)
    text = (tmp_path / "rank_check.txt").read_text()
    assert "seed against seed" not in text and max(map(len, text.splitlines())) <= 110


def test_a_run_that_trained_on_what_would_score_it_is_refused(short, tmp_path):
    workdir = str(shutil.copytree(short.workdir, tmp_path / "copy"))
    network = load_meta_network(workdir)
    network.config.train.update({"finish": 0.5, "finish_valid": True})
    save_meta_network(workdir, network)
    with pytest.raises(ValueError, match="trained on meta_valid"):
        rank_check(workdir, str(tmp_path / "out"), CHECK)
