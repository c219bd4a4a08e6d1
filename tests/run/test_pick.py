"""What a run measures before it begins: the fastest of equals is taken, kept, and never measured again."""

import json

import jax
import numpy as np
import pytest

from atnas_jax.job.faults import Fault
from atnas_jax.job.state import flat_settings
from atnas_jax.run import pick as module
from atnas_jax.run import search
from atnas_jax.run.pick import alternatives, pick, recalled
from atnas_jax.run.search import across_task_search

pytestmark = pytest.mark.usefixtures("few_optimisations")
FOLDED = {"net.execution": "folded", "train.tasks": 4, "net.conv": "mixed"}


def timed(monkeypatch, seconds, calls=None):
    """Let the settings of a trial decide how long its run takes, by a clock that stands still otherwise."""
    now = [0.0]

    def ready(config, mesh, name):
        settings = flat_settings(config.to_dict())

        def run():
            now[0] += seconds({name: settings[name] for name in module.PICKED})
            if calls is not None:
                calls.append((name, settings[name]))

        return run

    monkeypatch.setattr(module, "_ready", ready)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])


def test_nothing_that_rounds_more_or_runs_all_branches_is_an_alternative(tiny):
    assert alternatives(tiny()) == {"net.conv": ["auto"], "train.task_batch": [1], "search.batch": [1]}
    assert alternatives(tiny({"net.conv": "mixed"}))["net.conv"] == ["mixed", "auto"]
    found = alternatives(tiny(FOLDED | {"train.task_batch": 2, "search.batch": 4}))
    assert found["train.task_batch"] == [2, 1, 4] and found["search.batch"] == [4, 1, 16]


def test_the_fastest_is_taken_one_setting_after_the_other_in_turns(tiny, monkeypatch):
    calls, said = [], []
    timed(
        monkeypatch,
        lambda s: (2.0 if s["net.conv"] == "mixed" else 1.0) + s["train.task_batch"] + 10 / s["search.batch"],
        calls,
    )
    chosen = pick(tiny(FOLDED | {"train.task_batch": 2}), "", said.append)
    assert chosen == {"net.conv": "auto", "train.task_batch": 1, "search.batch": 16}
    assert calls[:4] == [("net.conv", "mixed"), ("net.conv", "auto")] * 2
    assert said[0] == "net.conv: measures 'mixed', 'auto', each of which is compiled"
    assert said[1] == "net.conv: 2 outer steps in 14 s with 'mixed', 13 s with 'auto'; takes 'auto'"
    assert len(said) == 6 and said[5].startswith("search.batch: a generation in")


def test_what_does_not_run_is_passed_over_but_not_what_was_given(tiny, monkeypatch):
    said, broken = [], {"auto"}

    def ready(config, mesh, name):
        if config.net.conv in broken:
            raise Fault("no memory")
        return lambda: None

    monkeypatch.setattr(module, "_ready", ready)
    assert pick(tiny({"net.conv": "mixed"}), "", said.append) == {"net.conv": "mixed"}
    assert said[1] == "net.conv 'auto' is passed over: no memory"
    broken.add("mixed")
    with pytest.raises(Fault, match="no memory"):
        pick(tiny({"net.conv": "mixed"}), "", said.append)


def test_a_trial_trains_or_scores_by_the_setting(tiny):
    config = tiny({"net.conv": "rows", "space.chain.ops": ("conv3",), "space.chain.widths": (4,)})
    for name in ("net.conv", "search.batch"):
        run = module._ready(config, "", name)
        first, second = run(), run()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
        assert all(map(np.array_equal, *map(jax.tree.leaves, (first, second)))) == (name == "search.batch")


def test_a_run_keeps_what_it_picked_and_goes_on_with_it(tiny, tmp_path, monkeypatch):
    short = {"meta_test.rows": ("best",), "meta_test.conv4": False, "meta_test.other_normalisation": False}
    config, picks = tiny(short | {"measure": True, "net.conv": "rows", "search.generations": 1}), []
    monkeypatch.setattr(search, "pick", lambda *_: (picks.append(1), {"net.conv": "auto"})[1])
    workdir = str(tmp_path)
    assert recalled(config, workdir) == {}
    first = across_task_search(config, workdir, quiet=True)
    assert json.load(open(f"{workdir}/config.json"))["net"]["conv"] == first["config"]["net"]["conv"] == "auto"
    assert recalled(config, workdir)["net.conv"] == "auto"
    (tmp_path / "results.json").unlink()
    again = across_task_search(config, workdir, quiet=True)
    assert picks == [1] and again["config"] == first["config"] and again["genotype"] == first["genotype"]
    with pytest.raises(ValueError, match=r"other settings \(measure, net.conv\)"):
        across_task_search(tiny(short | {"net.conv": "rows", "search.generations": 1}), workdir, quiet=True)
