"""Settings: every config of the repository is sound, and a wrong setting is refused in one line that helps."""

import json
import math
import runpy
import shutil
from pathlib import Path

import pytest

from atnas_jax.job.build import load_data
from atnas_jax.job.config import check_config, setting_names, stored_config, strategy_options, unknown_setting
from atnas_jax.job.defaults import default_config

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_sound_locked_and_explained(path):
    module = runpy.run_path(str(path))
    config = module["get_config"]()
    check_config(config)
    assert config.is_locked
    assert setting_names(config) == setting_names(default_config())
    assert "Command:" in module["__doc__"]


def test_there_are_configs():
    assert {"quickstart", "omniglot_5w1s", "cifar_fs_5w1s", "mini_imagenet_5w1s"} <= {path.stem for path in CONFIGS}


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(AttributeError):
        default_config().search.generatons = 3
    assert unknown_setting("search.generations") == ""
    line = unknown_setting("search.generatons")
    assert "'search.generatons'" in line
    assert "'search.generations'" in line
    assert "\n" not in line


def test_a_setting_that_is_added_or_missing_is_refused():
    config = default_config()
    with config.unlocked():
        config.train.stepps = 3
    with pytest.raises(ValueError, match=r"no setting 'train.stepps'; the nearest is 'train.steps'"):
        check_config(config)
    config = default_config()
    with config.unlocked():
        del config.train.steps
    with pytest.raises(ValueError, match=r"'train.steps' is missing"):
        check_config(config)


def _set(config, name, value):
    *sections, last = name.split(".")
    for section in sections:
        config = config[section]
    with config.ignore_type():
        config[last] = value


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("train.steps", 0, "train.steps is 0; it must be 1 or more"),
        ("train.steps", 1.5, "train.steps is 1.5, a float; it must be a int"),
        ("train.steps", True, "a bool; it must be a int"),
        ("train.rotations", 1, "an? int; it must be a bool"),
        ("train.warmup", 1.5, "from 0 to 1"),
        ("train.finish_valid", True, "no finish to train in; raise train.finish"),
        ("train.outer_lr", math.nan, "train.outer_lr is nan"),
        ("train.outer_lr", math.inf, "train.outer_lr is inf"),
        ("train.schedule", "linear", "allowed: 'cosine', 'constant'"),
        ("learner.name", "mamal", "allowed: 'maml'"),
        ("learner.head", "linear", "allowed: 'prototypes'"),
        ("net.normalisation", "batch", "allowed: 'support', 'batch_transductive'"),
        ("protocol.ways", 1, "protocol.ways is 1; it must be 2 or more"),
        ("protocol.episodes", 1, "2 or more"),
        ("seed", -1, "seed is -1"),
        ("search.generations", 2000, "leave 1400 between train.warmup and train.finish"),
        ("search.objectives", ("params",), "the first 'accuracy'"),
        ("search.objectives", ("accuracy", "accuracy"), "distinct"),
        ("search.objectives", ("accuracy", "params"), "take strategy 'nsga2'"),
        ("search.over_limit", "ignore", "allowed: 'reject', 'repair'"),
        ("search.options.elites", 16, "must be less than search.population 16"),
        ("search.options.kappa", "two", "a str; it must be a float"),
        ("search.options.elites", "two", "a str; it must be a int"),
        ("meta_test.rows", ("best", "oracle"), "meta_test.rows has 'oracle'"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(name, value, says):
    config = default_config()
    _set(config, name, value)
    with pytest.raises(ValueError, match=says) as caught:
        check_config(config)
    assert "\n" not in str(caught.value)


def test_contradictions_are_refused_and_their_cures_pass():
    config = default_config()
    config.learner.inner_steps = 0
    check_config(config)
    config.learner.head = "zeros"
    with pytest.raises(ValueError, match="learns nothing"):
        check_config(config)
    config.learner.inner_steps = 1
    config.train.update({"mirrors": True, "flip": True})
    with pytest.raises(ValueError, match="mixes; set one to False"):
        check_config(config)
    config.train.alike = True
    check_config(config)
    config.train.update({"mirrors": False, "rotations": False})
    with pytest.raises(ValueError, match="no views"):
        check_config(config)
    config.train.alike = False
    config.search.objectives = ("accuracy", "macs")
    config.search.strategy = "nsga2"
    check_config(config)


def test_a_table_of_the_untrained_control_alone_is_refused():
    config = default_config()
    config.meta_test.update({"conv4": False, "rows": ("conv4",)})
    with pytest.raises(ValueError, match="'conv4' alone, which is not trained"):
        check_config(config)
    config.meta_test.rows = ("conv4", "best")
    check_config(config)


def test_only_glyphs_take_a_difficulty(tiny_data, tmp_path, monkeypatch):
    config = default_config()
    config.data.source = "glyphs_mine.npz"
    shutil.copy(tiny_data, tmp_path / config.data.source)
    monkeypatch.chdir(tmp_path)
    assert load_data(config).source == "npz:glyphs_mine.npz"


def test_a_guided_search_needs_evaluations_to_guide():
    config = default_config()
    config.search.update({"strategy": "nao", "population": 4})
    with pytest.raises(ValueError, match=r"seeds 40 random genotypes leave .* none of 40"):
        check_config(config)
    config.search.options.seeds = 39
    check_config(config)
    config.search.update({"strategy": "genetic", "generations": 2})
    check_config(config)


@pytest.mark.parametrize("strategy", ["coevolution", "islands"])
def test_a_prefilter_is_refused_where_rows_are_known_by_their_place(strategy):
    config = default_config()
    config.search.update({"strategy": strategy, "prefilter": "params"})
    with pytest.raises(ValueError, match=rf"'params' moves rows that search.strategy '{strategy}'") as caught:
        check_config(config)
    assert "\n" not in str(caught.value)
    config.search.prefilter = "none"
    check_config(config)


def test_whole_numbers_pass_for_real_ones():
    config = default_config()
    config.learner.inner_lr = 1
    check_config(config)


def test_a_record_older_than_a_setting_has_its_default():
    record = json.loads(json.dumps(default_config().to_dict()))
    record["train"]["steps"] = 700
    del record["adapt"]["score"], record["space"]["chain"]["elastic_kernel"]
    config = stored_config(record)
    expected = default_config()
    expected.train.steps = 700
    assert config == expected and config.is_locked
    check_config(config)


def test_only_the_options_that_are_set_reach_the_strategy():
    config = default_config()
    assert strategy_options(config) == {}
    config.search.options.elites = 0
    config.search.options.mutation_rate = 0.2
    assert strategy_options(config) == {"elites": 0, "mutation_rate": 0.2}
