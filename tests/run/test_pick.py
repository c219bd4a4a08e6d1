"""What a run measures before it begins: the fastest of equals is taken, kept, and never measured again."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from atnas_jax.devices import make_mesh
from atnas_jax.job import turns
from atnas_jax.job.build import build, relearned
from atnas_jax.job.compiled import cores
from atnas_jax.job.faults import Fault
from atnas_jax.job.state import flat_settings, init_state
from atnas_jax.run import pick as module
from atnas_jax.run import search
from atnas_jax.run.pick import alternatives, pick, recalled
from atnas_jax.run.search import across_task_search
from atnas_jax.study import seeds

pytestmark = pytest.mark.usefixtures("few_optimisations")

FOLDED = {"measure": True, "net.execution": "folded", "train.tasks": 4, "net.conv": "mixed"}
MIXED = {"measure": True, "net.conv": "mixed"}
SHORT = {
    **{"meta_test.rows": ("best",), "meta_test.conv4": False, "meta_test.other_normalisation": False},
    **{"search.generations": 1, "space.chain.ops": ("conv3",), "space.chain.widths": (4,)},
}


def timed(monkeypatch, seconds, calls):
    """Let the settings of a trial decide how long its run takes, by a clock that stands still otherwise."""
    now = [0.0]

    def ready(config, parts, layout, name, held):
        settings = flat_settings(config.to_dict())

        def run():
            now[0] += seconds({name: settings[name] for name in module.PICKED})
            calls.append((name, settings[name]))

        return run

    monkeypatch.setattr(module, "_ready", ready)
    monkeypatch.setattr(module, "_first_state", lambda *_: None)
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])


def on(devices):
    return SimpleNamespace(mesh=make_mesh(devices))


def test_nothing_that_rounds_more_or_leaves_devices_idle_is_an_alternative(tiny):
    assert alternatives(tiny(), on(1), "") == {}
    assert alternatives(tiny({"measure": True}), on(1), "tasks:1,population:1") == {"net.conv": ["auto"], "devices": []}
    assert alternatives(tiny(MIXED), on(1), "")["net.conv"] == ["mixed", "auto"]
    folded = tiny(FOLDED | {"train.task_batch": 2, "search.batch": 4})
    if jax.device_count() == 2:
        found = alternatives(folded, on(2), "")
        assert found["train.task_batch"] == [2, 1] and found["search.batch"] == [4, 1, 16]
        assert alternatives(folded, on(2), "tasks:1,population:2")["train.task_batch"] == []
    assert alternatives(folded, on(1), "")["train.task_batch"] == ([4] if jax.device_count() > 1 else [2, 1, 4])


@pytest.mark.skipif(jax.device_count() != 4, reason="of four devices")
def test_fewer_devices_are_measured_where_nobody_has_laid_them_out(tiny, monkeypatch):
    def found(tasks, layout="", **changes):
        return alternatives(tiny({"measure": True, "train.tasks": tasks} | changes), one, layout)["devices"]

    one = on(1)
    assert found(4) == [0, 2, 1]
    assert found(2) == [0, 1]  # as two of four are taken anyway
    assert found(4, devices=2) == [2, 1] and found(4, devices=1) == [1]  # a limit is not lifted
    assert found(4, "tasks:4,population:1") == []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert found(4) == []


def test_devices_that_have_several_cores_do_not_convolve_by_one(tiny):
    """Or fewer devices would be measured with cores that idle."""
    config = tiny({"train.tasks": 4 * cores()})
    parts = build(config)
    assert parts.by_core
    config.devices = 1
    fewer = relearned(config, parts)
    assert fewer.mesh.size == 1 and fewer.by_core == (cores() == 1)
    leaves = jax.tree.leaves(fewer.dataset.table)
    assert all(leaf.sharding.device_set == set(fewer.mesh.devices.flat) for leaf in leaves)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learner.name": "maml", "learner.inner_steps": 2}, ["auto", "always"]),
        ({"learner.name": "maml", "learner.inner_steps": 5}, ["auto", "never"]),
        ({"learner.name": "boil", "learner.inner_steps": 5, "train.remat": "never"}, ["never", "always"]),
        ({"learner.name": "maml", "learner.inner_steps": 1}, None),
        ({"learner.name": "fomaml", "learner.inner_steps": 5}, None),
        ({"learner.name": "anil", "learner.inner_steps": 5}, None),
    ],
)
def test_rematerialisation_is_measured_where_a_loop_is_differentiated_twice(tiny, changes, expected):
    assert alternatives(tiny({"measure": True} | changes), on(1), "").get("train.remat") == expected


def test_the_fastest_is_taken_one_setting_after_the_other_in_turns(tiny, monkeypatch):
    calls, said = [], []
    timed(
        monkeypatch,
        lambda s: (2.0 if s["net.conv"] == "mixed" else 1.0) + s["train.task_batch"] + 10 / s["search.batch"],
        calls,
    )
    config = tiny(FOLDED | {"train.task_batch": 2})
    monkeypatch.setattr(module, "mesh_for", lambda rows, layout="", most=0: make_mesh(1))
    chosen = pick(config, on(1), "", said.append)
    assert chosen == {"net.conv": "auto", "train.task_batch": 1, "search.batch": 16}
    assert calls[:4] == [("net.conv", "mixed"), ("net.conv", "auto")] * 2
    assert said[0] == "net.conv: measures 'mixed', 'auto', each of which is compiled"
    assert said[1] == "net.conv: 2 outer steps in 14 s with 'mixed', 13 s with 'auto'; takes 'auto'"
    assert len(said) == 6 and said[5].startswith("search.batch: a generation in")


def test_remat_and_devices_are_chosen_by_their_seconds_too(tiny, monkeypatch):
    calls, said = [], []
    timed(monkeypatch, lambda s: 3.0 + (s["devices"] != 1) + (s["train.remat"] == "auto"), calls)
    config = tiny({"measure": True, "learner.name": "maml", "learner.inner_steps": 5, "train.tasks": 4})
    chosen = pick(config, on(jax.device_count()), "", said.append)
    assert chosen == {"train.remat": "never"} | ({"devices": 1} if jax.device_count() > 1 else {})
    assert said[1] == "train.remat: 2 outer steps in 5 s with 'auto', 4 s with 'never'; takes 'never'"


def test_what_is_timed_lies_behind_the_first_steps(tiny):
    config = tiny({"learner.name": "maml", "learner.inner_steps": 2, "train.first_order_steps": 4})
    assert int(module._first_state(config, build(config)).meta.step) == 4


def test_what_gains_too_little_leaves_the_configs_own():
    assert module._fastest({"a": 10.0, "b": 9.6, "c": 11.0}, "a") == "a"
    assert module._fastest({"a": 10.0, "b": 9.4, "c": 9.6}, "a") == "b"
    assert module._fastest({"a": 10.0}, "a") == "a"


def test_what_does_not_run_is_passed_over_but_not_what_was_given(tiny, monkeypatch):
    said, broken = [], {"auto"}

    def ready(config, *_):
        if config.net.conv in broken:
            raise Fault("no memory")
        return lambda: None

    monkeypatch.setattr(module, "_ready", ready)
    monkeypatch.setattr(module, "_first_state", lambda *_: None)
    assert pick(tiny(MIXED), on(1), "", said.append)["net.conv"] == "mixed"
    assert said[1] == "net.conv 'auto' is passed over: no memory"
    broken.add("mixed")
    with pytest.raises(Fault, match="no memory"):
        pick(tiny(MIXED), on(1), "", said.append)


def test_a_trial_trains_or_scores_by_the_setting(tiny):
    config = tiny(SHORT | {"net.conv": "rows"})
    parts = build(config)
    for name in ("net.conv", "devices", "search.batch"):
        config.devices = 1 if name == "devices" else 0
        held = {"state": init_state(config, parts)}
        run = module._ready(config, parts, "", name, held)
        first = jax.tree.map(np.array, run())  # a copy, as the next call donates it
        second = jax.tree.map(np.array, run())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
        first, second = (x if name == "search.batch" else x.params["body"] for x in (first, second))
        same = [np.array_equal(*pair) for pair in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)]
        assert all(same) == (name == "search.batch")


def test_a_run_keeps_what_it_picked_and_goes_on_with_it(tiny, tmp_path, monkeypatch):
    config, picks = tiny(SHORT | {"measure": True, "net.conv": "rows"}), []
    monkeypatch.setattr(search, "pick", lambda *args: (picks.append(args), {"net.conv": "auto", "devices": 1})[1])
    workdir = str(tmp_path / "seed0")
    assert recalled(config, workdir) is None
    first = across_task_search(config, workdir, quiet=True)
    kept = tmp_path / "seed0" / "config.json"
    assert json.loads(kept.read_text())["net"]["conv"] == first["config"]["net"]["conv"] == "auto"
    assert recalled(config, workdir) == {"net.conv": "auto", "devices": 1}
    (tmp_path / "seed0" / "results.json").unlink()
    again = across_task_search(config, workdir, quiet=True)
    assert len(picks) == 1 and again["config"] == first["config"] and again["genotype"] == first["genotype"]

    with pytest.raises(ValueError, match=r"other settings \(devices, net.conv\)"):
        across_task_search(tiny(SHORT | {"net.conv": "rows"}), workdir, quiet=True)
    record = json.loads(kept.read_text())
    del record["measure"]  # a run that began before there was such a setting
    kept.write_text(json.dumps(record | {"net": record["net"] | {"conv": "rows"}}))
    across_task_search(config, workdir, quiet=True)
    assert len(picks) == 1


def test_seeds_compute_as_the_first_of_them_measured(tiny, tmp_path, monkeypatch):
    ran = []

    def job(config, folder, quiet):
        ran.append((config.seed, config.measure, config.net.conv))
        (tmp_path / f"seed{config.seed}").mkdir()
        kept = config.to_dict() | {"net": config.net.to_dict() | {"conv": "auto"}}
        (tmp_path / f"seed{config.seed}" / "config.json").write_text(json.dumps(kept))

    monkeypatch.setattr(seeds, "across_task_search", job)
    monkeypatch.setattr(seeds, "merge", lambda folders: {})
    monkeypatch.setattr(seeds, "write_seeds", lambda workdir, record: record)
    seeds.run_seeds(tiny(MIXED), str(tmp_path), 3)
    assert ran == [(0, True, "mixed"), (1, False, "auto"), (2, False, "auto")]
