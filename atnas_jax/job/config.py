"""The check of a config, which refuses a wrong setting in one line before anything compiles."""

import difflib
import inspect
import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from atnas_jax.job.allowed import CHOICES, RANGES
from atnas_jax.job.defaults import ROWS, default_config
from atnas_jax.meta.learners import BY_PATH, LEARNERS, refused
from atnas_jax.meta.stages import Early
from atnas_jax.search.scalarise import FACTORS, TERMS
from atnas_jax.search.strategies import BY_GRADIENT, BY_PLACE, STRATEGIES
from atnas_jax.space.extremes import KINDS

LARGEST = 2**31 - 1  # of whole numbers on a device
MAY_BE_EMPTY = ("space.cell.reductions", "search.progressive")


def setting_names(config: ConfigDict) -> list[str]:
    """Return the dotted names of all settings, in order."""
    names = []
    for name, value in config.items():
        names += [f"{name}.{below}" for below in setting_names(value)] if isinstance(value, ConfigDict) else [name]
    return names


def unknown_setting(name: str) -> str:
    """Return the line that refuses the dotted `name` and says the nearest one, or "" where the name is a setting."""
    names = setting_names(default_config())
    if name in names:
        return ""
    nearest = difflib.get_close_matches(name, names, 1, 0.0)[0]
    return f"there is no setting {name!r}; the nearest is {nearest!r} (atnas_jax/job/defaults.py has them all)"


def check_config(config: ConfigDict) -> None:
    """Raise ValueError, in one line, where a setting is missing, unknown, of a wrong type, out of range or at odds."""
    defaults = default_config()
    names = setting_names(defaults)
    if odd := [name for name in setting_names(config) if name not in names]:
        raise ValueError(unknown_setting(odd[0]))
    for name in names:
        _check_type(name, _get(config, name), defaults)
    for name, allowed in CHOICES.items():
        if _get(config, name) not in allowed:
            raise ValueError(f"{name} is {_get(config, name)!r}; allowed: {', '.join(map(repr, allowed))}")
    for name, (low, high) in RANGES.items():
        if not low <= _get(config, name) <= high or _get(config, name) == math.inf:  # NaN fails the first
            limit = f"{low} or more" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{name} is {_get(config, name)!r}; it must be {limit}")
    for problem in _contradictions(config):
        raise ValueError(problem)


def stored_config(record: dict[str, Any]) -> ConfigDict:
    """Return the locked config of what JSON held, where a tuple has become a list.

    A setting that is younger than the record has its default: what was done before it, but for `adapt.margin`,
    `adapt.trials` and, which may round otherwise, `search.sharing`.
    """

    def restore(value):
        if isinstance(value, dict):
            return {name: restore(below) for name, below in value.items()}
        return tuple(map(restore, value)) if isinstance(value, list) else value

    def fill(given, defaults):
        return defaults | {
            name: fill(value, known if isinstance(known := defaults.get(name), dict) else {})
            if isinstance(value, dict)
            else value
            for name, value in given.items()
        }

    return ConfigDict(fill(restore(record), default_config().to_dict())).lock()


def chunk_of(config: ConfigDict) -> int:
    """Return the outer steps of one dispatch, train.chunk or all of a run that is shorter."""
    return min(config.train.chunk, config.train.steps)


def evaluation_steps(config: ConfigDict) -> int:
    """Return the inner steps of evaluation and novel tasks."""
    steps = config.learner.eval_inner_steps
    return config.learner.inner_steps if steps < 0 else steps


def strategy_options(config: ConfigDict) -> dict[str, Any]:
    """Return the options of the strategy that are set; the others stay the strategy's own."""
    return {name: value for name, value in config.search.options.items() if value is not None}


def random_seeds(config: ConfigDict) -> int:
    """Return how many random genotypes the strategy evaluates before it learns, 0 for one that does not learn."""
    strategy, given = STRATEGIES.get(config.search.strategy), config.search.options.seeds
    parameters = inspect.signature(strategy).parameters if strategy else {}
    if "seeds" not in parameters:
        return 0
    return parameters["seeds"].default if given is None else given


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(config, ConfigDict) or part not in config:
            raise ValueError(f"setting {name!r} is missing; start the config from default_config()")
        config = config[part]
    return config


def _check_type(name: str, value: Any, defaults: ConfigDict) -> None:
    section, _, last = name.rpartition(".")
    wanted = (_get(defaults, section) if section else defaults).get_type(last)
    if value is None and _get(defaults, name) is None:
        return
    allowed = (int, float) if wanted is float else wanted
    if not isinstance(value, allowed) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; it must be a {wanted.__name__}")
    if wanted in (int, float) and isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{name} is {value!r}; whole numbers are at most {LARGEST}")
    if wanted is tuple:
        if not value and name not in MAY_BE_EMPTY:
            raise ValueError(f"{name} is empty; it must hold at least one entry, such as {_get(defaults, name)[0]!r}")
        entry = type(_get(defaults, name)[0])
        entries = [below for each in value for below in (each if _may_nest(name, each) else [each])]
        if odd := [one for one in entries if type(one) is not entry or (entry is int and abs(one) > LARGEST)]:
            raise ValueError(f"{name} has {odd[0]!r}, a {type(odd[0]).__name__}; it must hold {entry.__name__}s")


def _may_nest(name: str, entry: Any) -> bool:
    return name == "space.chain.ops" and isinstance(entry, tuple | list)


def _contradictions(config: ConfigDict) -> Iterator[str]:
    train, learner, search = config.train, config.learner, config.search
    steps = train.steps - int(train.warmup * train.steps) - int(train.finish * train.steps)
    if steps < search.generations:
        yield (
            f"train.steps {train.steps} leave {max(steps, 0)} between train.warmup and train.finish, too few for "
            f"search.generations {search.generations}; raise train.steps or lower train.warmup or train.finish"
        )
    if train.finish_valid and not train.finish:
        yield "train.finish_valid has no finish to train in; raise train.finish or set finish_valid to False"
    if train.mirrors and train.flip and not train.alike:
        yield "train.mirrors makes mirror images classes of their own, which train.flip mixes; set one to False"
    if train.alike and not (train.rotations or train.mirrors):
        yield "train.alike has no views to turn all classes to; set train.rotations or train.mirrors to True"
    if learner.inner_steps == 0 and (learner.name in (*BY_PATH, "boil") or learner.head != "prototypes"):
        yield (
            f"learner.inner_steps 0 with {learner.name!r} and head {learner.head!r} learns nothing; "
            "take inner_steps 1 or more, or head 'prototypes' with 'maml'"
        )
    if train.steps % chunk_of(config):
        yield f"train.steps {train.steps} is not a multiple of train.chunk {train.chunk}"
    if train.tasks % train.task_batch:
        yield f"train.tasks {train.tasks} is not a multiple of train.task_batch {train.task_batch}"
    if train.tasks % train.masks_per_task:
        yield f"train.tasks {train.tasks} is not a multiple of train.masks_per_task {train.masks_per_task}"
    if max(train.task_batch, search.batch) > 1 and config.net.execution == "switch":
        yield "train.task_batch or search.batch above 1 runs every branch of a switch; take net.execution 'folded'"
    early = Early(train.first_order_steps, train.every_step_loss)
    options = (learner.step_rates, learner.step_norms, early, train.distill)
    yield from refused(learner.name, LEARNERS[learner.name][0], *options)
    if max(*early, learner.step_rates, learner.step_norms) and learner.inner_steps == 0:
        yield "learner.inner_steps 0 leaves no step to learn rates, norms or losses of; take 1 or more"
    if train.every_step_loss and learner.inner_steps < 2:
        yield "train.every_step_loss weighs two inner steps or more; raise learner.inner_steps or set it to 0"
    if (learner.name == "mtl") != (0 < learner.freeze_after < train.steps):
        yield (
            f"learner.freeze_after is {learner.freeze_after} with learner.name {learner.name!r}; 'mtl' needs from 1 to "
            f"{train.steps - 1}, outer steps before the kernels freeze, the others 0"
        )
    if config.net.normalisation == "tasknorm" and learner.name in BY_PATH:
        yield (
            f"net.normalisation 'tasknorm' learns from a query loss, which learner.name {learner.name!r} has not; "
            "take 'fomaml' or another normalisation"
        )
    if train.weight_decay and learner.name == "reptile":
        yield "train.weight_decay is AdamW's; learner.name 'reptile' takes plain SGD outside, so set it to 0"
    if learner.head == "matrix" and train.ways != config.protocol.ways:
        yield (
            f"learner.head 'matrix' is made for train.ways {train.ways} and cannot serve protocol.ways "
            f"{config.protocol.ways}; make them equal or take another head"
        )
    if search.sampler == "sandwich" and train.tasks < 2 + (search.anchor != "never"):
        yield (
            f"search.sampler 'sandwich' with search.anchor {search.anchor!r} leaves no room for both extremes in "
            f"train.tasks {train.tasks}; raise it"
        )
    objectives = search.objectives
    if objectives[:1] != ("accuracy",) or len(set(objectives)) != len(objectives):
        yield f"search.objectives is {objectives!r}; it must be distinct names, the first 'accuracy'"
    if len(objectives) > 1 and search.strategy != "nsga2":
        yield f"search.strategy {search.strategy!r} looks at the first of {objectives!r} alone; take strategy 'nsga2'"
    for name, chosen, known in (
        ("search.objectives", objectives, ("accuracy", "params", "macs", "latency")),
        ("search.progressive", search.progressive, KINDS),
        ("meta_test.rows", config.meta_test.rows, ROWS),
    ):
        if unknown := [entry for entry in chosen if entry not in known]:
            yield f"{name} has {unknown[0]!r}; allowed: {', '.join(map(repr, known))}"
    if set(config.meta_test.rows) == {"conv4"} and not config.meta_test.conv4:
        yield "meta_test.rows has 'conv4' alone, which is not trained; set meta_test.conv4 to True, or add a row"
    if search.prefilter != "none" and search.strategy in BY_PLACE:
        yield (
            f"search.prefilter {search.prefilter!r} moves rows that search.strategy {search.strategy!r} knows by their "
            "place; set it to 'none' or take another strategy, such as 'genetic'"
        )
    yield from _cost_contradictions(config)
    if (seeds := random_seeds(config)) >= (evaluations := search.population * search.generations):
        yield (
            f"search.options.seeds {seeds} random genotypes leave search.strategy {search.strategy!r} none of "
            f"{evaluations} evaluations; lower it, or raise search.population or search.generations"
        )
    if search.racing_share and (search.racing == "none" or len(objectives) > 1):
        yield (
            f"search.racing_share {search.racing_share} has no race, with search.racing {search.racing!r} and "
            f"search.objectives {objectives!r}; set it to 0"
        )
    if config.adapt.trials == 1:
        yield "adapt.trials 1 has no interval; take 2 or more, or 0 for no trial"
    if (search.options.elites or 0) >= search.population:
        yield f"search.options.elites {search.options.elites} must be less than search.population {search.population}"


def _cost_contradictions(config: ConfigDict) -> Iterator[str]:
    search = config.search
    by_gradient, how = search.strategy in BY_GRADIENT, search.scalarise
    if by_gradient and config.net.execution != "folded":
        yield f"search.strategy {search.strategy!r} relaxes masks, and a switch cannot; take net.execution 'folded'"
    if how in TERMS and not by_gradient:
        yield f"search.scalarise {how!r} is a term of a gradient strategy's loss; take one of {', '.join(BY_GRADIENT)}"
    if how in FACTORS and by_gradient:
        yield f"search.scalarise {how!r} multiplies a fitness, and {search.strategy!r} has none; take 'add_linear'"
    if how != "none" and search.target <= (low := how == "mul_log"):
        yield f"search.target is {search.target}; {how!r} needs more than {int(low)}, in the unit of the cost"
    needs = {
        "search.max_latency_ms": search.max_latency_ms > 0,
        "objective 'latency'": "latency" in search.objectives,
        "search.scalarise_cost 'latency'": how != "none" and search.scalarise_cost == "latency",
    }
    if not search.latency and (who := next((name for name, asked in needs.items() if asked), None)):
        yield f"{who} needs search.latency, a file of launch.measure_latency"
