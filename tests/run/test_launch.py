"""The commands: bad input is one line on standard error and exit status 2."""

import functools

import pytest

QUICKSTART = "--config=configs/quickstart.py"
COMMAND = """
from absl import flags
from ml_collections import config_flags
from atnas_jax.job.config import check_config
from launch import _main

CONFIG = config_flags.DEFINE_config_file("config", None, "")
flags.mark_flag_as_required("config")
flags.DEFINE_string("workdir", None, "", required=True)

def main(argv):
    check_config(CONFIG.value)
    print("steps", CONFIG.value.train.steps, CONFIG.value.space.chain.ops, CONFIG.value.search.options.elites)

if __name__ == "__main__":
    _main.run(main)
"""


@pytest.fixture
def launch(command, tmp_path):
    """Return launch(*arguments): run COMMAND to its end."""
    (tmp_path / "command.py").write_text(COMMAND)
    return functools.partial(command, tmp_path / "command.py")


def test_overrides_reach_the_config(launch):
    done = launch(
        "--workdir=x",
        QUICKSTART,
        "--config.train.steps=100",
        "--config.space.chain.ops=(('conv3',), ('conv3', 'identity'))",
        "--config.search.options.elites=1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "steps 100 (('conv3',), ('conv3', 'identity')) 1\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workdir=x", QUICKSTART, "--config.search.generatons=3"], "the nearest is 'search.generations'"),
        (["--workdir=x", QUICKSTART, "--config.serch.generations=3"], "the nearest is 'search.generations'"),
        (["--workdir=x", QUICKSTART, "--config.search.generations=x"], "search.generations"),
        (["--workdir=x", QUICKSTART, "--config.train.steps=0"], "train.steps is 0; it must be 1 or more"),
        (["--workdir=x", "--config=configs/nope.py"], "configs/nope.py"),
        (["--workdir=x", QUICKSTART, "--workdri=x"], "workdri"),
        (["--workdir=x", QUICKSTART, "stray"], "unknown argument 'stray'"),
        ([QUICKSTART], "workdir"),
        (["--workdir=x"], "config"),
    ],
)
def test_bad_input_is_one_line_and_status_2(launch, arguments, says):
    done = launch(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert says in done.stderr


def test_debug_shows_the_traceback(launch):
    done = launch("--workdir=x", QUICKSTART, "--config.train.steps=0", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
