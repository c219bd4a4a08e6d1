"""A run goes on with other devices, or as several processes, and ends bit for bit as if nothing had happened."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import yaml

from atnas_jax.job import compiled, processes
from atnas_jax.job.budget import rungs_of
from atnas_jax.job.build import build
from atnas_jax.job.faults import Fault
from atnas_jax.job.kept import kept_program
from atnas_jax.job.processes import anywhere, by_first, check_same, first_only, join, of_first, together
from atnas_jax.job.progress import Progress
from atnas_jax.job.trial import trial_to_dict
from atnas_jax.novel.meta_network import load_meta_network
from atnas_jax.run import search
from atnas_jax.study.traffic import traffic

SMALLEST = {  # one block: compiling is most of the time of these tests
    "space.chain.ops": (("conv3", "conv1"),),
    "space.chain.depths": (1,),
    "space.chain.strides": (2,),
    "adapt.trials": 4,
    "meta_test.rows": ("best", "random_architecture"),
    "meta_test.conv4": False,
    "meta_test.other_normalisation": False,
}
FLAGS = ("--config=tests/run/tiny.py", "--cpu_devices=2", *(f"--config.{name}={SMALLEST[name]}" for name in SMALLEST))


def _stopped_after(updates, monkeypatch, config, workdir, mesh=""):
    left = [updates]

    def update(*_, **__):
        left[0] -= 1
        if left[0] == 0:
            raise InterruptedError("stopped")

    monkeypatch.setattr(search, "make_progress", lambda *_: Progress(update, lambda _: None, lambda: None))
    with pytest.raises(InterruptedError):
        search.across_task_search(config, str(workdir), quiet=True, mesh=mesh)


def _assert_same(one, other):
    found = []
    for workdir in (one, other):
        with open(os.path.join(workdir, "results.json"), encoding="utf-8") as file:
            results = json.load(file) | {"ledger": 0}
        with np.load(os.path.join(workdir, "meta_network.npz")) as file:
            arrays = {name: (file[name].dtype, file[name].shape, file[name].tobytes()) for name in file.files}
        found.append((results, arrays))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    """(config, workdir) of a run on the two devices that its two episodes a step take by default."""
    config, workdir = tiny(SMALLEST), tmp_path_factory.mktemp("undisturbed")
    search.across_task_search(config, str(workdir), quiet=True)
    return config, workdir


@pytest.fixture(scope="module")
def began(undisturbed, tmp_path_factory):
    """(workdir, text of the compiled programs) of the same run after two of its four units and its first generation,
    on four devices of a mesh of both axes."""
    workdir, texts = tmp_path_factory.mktemp("began"), {}

    def compile_and_keep(mesh, function, *given, **how):
        program = kept_program(mesh, function, *given, **how)
        texts[function.__name__] = program.as_text()
        return program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "kept_program", compile_and_keep)
        _stopped_after(3, patch, undisturbed[0], workdir, "tasks:2,population:2")
    return workdir, texts


def test_what_a_run_tried_is_in_its_results_and_its_network(undisturbed):
    config, workdir = undisturbed
    results = search.finished(str(workdir))
    assert config.adapt.trials == results["trial"]["episodes"] == 4
    assert trial_to_dict(load_meta_network(str(workdir)).trial) == results["trial"]


def _bytes_of(text, kind):
    """Bytes of the results of the collectives of a kind in the text of a program."""
    return 4 * sum(
        math.prod(map(int, dims.split(",") if dims else ()))
        for types in re.findall(rf"= (.*?) {kind}\(", text)
        for dims in re.findall(r"[fsu]32\[([\d,]*)\]", types)
    )


def test_what_the_programs_send_is_what_the_cost_model_counts(undisturbed, began):
    """On 2 x 2 devices half of what two gather is another's; a ring sum of two receives its size, of four 3/2 of it."""
    config = undisturbed[0]
    counted = traffic(config, build(config, "tasks:2,population:2"))
    train, fitness = began[1]["train_chunk"], began[1]["fitness"]
    assert _bytes_of(train, "all-gather") / 2 == counted["outer_step"]
    np.testing.assert_allclose(_bytes_of(train, "all-reduce"), counted["chunk"], rtol=0.01)
    rungs = len(rungs_of(config, config.search.episodes))  # one sum in a loop over them
    assert _bytes_of(fitness, "all-reduce") * 1.5 * rungs == counted["generation"]
    assert "all-gather(" not in fitness
    assert traffic(config, build(config), 1, 1)["search"] == 0


def test_four_devices_then_one_then_two(undisturbed, began, tmp_path, monkeypatch):
    config, workdir = undisturbed[0], shutil.copytree(began[0], tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        _stopped_after(2, patch, config, workdir)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    search.across_task_search(config, str(workdir), quiet=True)
    _assert_same(undisturbed[1], workdir)


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _two_processes(repo, *flags):
    """Run launch.search as two processes of two devices; returns [(status, stdout, stderr)]."""
    port = _free_port()
    started = []
    for process, own in enumerate(flags):
        call = [sys.executable, "-m", "launch.search", *FLAGS, f"--coordinator=127.0.0.1:{port}", "--processes=2"]
        started.append(subprocess.Popen([*call, f"--process={process}", *own], cwd=repo, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=dict(os.environ)))  # fmt: skip
    try:
        ended = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *said) for process, said in zip(started, ended)]


def test_two_processes_of_two_devices_end_where_one_would(undisturbed, began, repo, tmp_path):
    """Process 1 is given a workdir of its own, which it must neither need nor touch."""
    workdir, other = shutil.copytree(began[0], tmp_path / "run"), tmp_path / "other"
    data = f"--config.data.source={undisturbed[0].data.source}"
    mesh = "--mesh=tasks:2,population:2"
    first, second = _two_processes(repo, (data, mesh, f"--workdir={workdir}"), (data, mesh, f"--workdir={other}"))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "goes on after 2 of 4 units" in first[2] and "4 of 4 devices" in first[2]
    assert "genotype chain:" in first[1] and "genotype chain:" not in second[1] and "units" not in second[2]
    assert not other.exists()
    _assert_same(undisturbed[1], workdir)


def test_what_one_process_refuses_ends_all(tiny_data, repo, tmp_path):
    """Process 1 has other settings."""
    shared = (f"--config.data.source={tiny_data}", f"--workdir={tmp_path / 'run'}")
    for status, _, said in _two_processes(repo, shared, (*shared, "--config.seed=1")):
        assert status == 2 and "error: process 1 of 2 has other settings than process 0" in said, said
    assert not (tmp_path / "run").exists()


def test_alone_every_agreement_is_the_own_value():
    tree = {"a": np.arange(3), "b": 2.0}
    assert of_first(tree) is tree
    assert together(lambda x: x + 1, 1) == by_first(lambda x, y: x + y, 1, y=1) == 2
    assert anywhere(True) and not anywhere(False)
    check_same("data", "x")
    assert first_only(lambda: tree) is tree
    with pytest.raises(ValueError, match="no"):
        by_first(int, "no")


@pytest.mark.parametrize(
    ("problem", "other"),
    [
        (ValueError("no"), ValueError),
        (FileNotFoundError(2, "no"), ValueError),
        *((problem("no"), Fault) for problem in (Fault, MemoryError)),
        (OSError(28, "no"), Fault),
    ],
)
def test_what_process_0_cannot_do_all_are_told(monkeypatch, problem, other):
    said = []

    def refuse():
        raise problem

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_text_of_first", lambda text: said.append(text) or said[0])
    with pytest.raises(type(problem), match="no"):
        by_first(refuse)
    monkeypatch.setattr(processes, "is_first", lambda: False)
    with pytest.raises(other, match=r"process 0 refused: .*no"):
        by_first(refuse)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"coordinator": "host:1"}, "give all three"),
        ({"processes": 2, "process": 0}, "the coordinator must be HOST:PORT"),
        ({"coordinator": "host", "processes": 2, "process": 0}, "the coordinator must be HOST:PORT"),
        ({"coordinator": "host:1", "processes": 2, "process": 2}, "from 0 to the number of processes less 1"),
    ],
)
def test_incomplete_flags_are_one_line(monkeypatch, given, says):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    join()  # alone
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("was not refused"))
    with pytest.raises(ValueError, match=says) as error:
        join(**given)
    assert "\n" not in str(error.value)


def test_the_environment_may_say_who_is_who(monkeypatch):
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: called.append(given))
    for name, value in (("COORDINATOR_ADDRESS", "host:1"), ("NUM_PROCESSES", "3"), ("PROCESS_ID", "2")):
        monkeypatch.setenv(f"JAX_{name}", value)
    join()
    join(process=1)
    assert called == [("host:1", 3, 2), ("host:1", 3, 1)]


def test_the_launchers_type_flags_that_there_are(repo, command):
    """The flags in the examples and the pods of k8s.yaml are read by the command; the numbers marked N agree."""
    shown = command("search", "--help").stdout
    service, job = yaml.safe_load_all((repo / "launch" / "k8s.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    given = dict(argument.removeprefix("--").split("=", 1) for argument in args)
    assert int(given["processes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert given["coordinator"].startswith(f"{job['metadata']['name']}-0.{pod['subdomain']}:")
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    for name in ("slurm.sh", "tpu_pod.sh"):
        text = (repo / "launch" / name).read_text()
        assert "-m launch.search --distributed" in text
        subprocess.run(["bash", "-n", repo / "launch" / name], check=True)
    for name in {*given, "distributed", "mesh"} - {"config.data.source"}:
        assert f"--{name}:" in shown or f"--[no]{name}:" in shown, name
    gpus = pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    tasks, population = (int(part.split(":")[1]) for part in given["mesh"].split(","))
    assert tasks * population == gpus * int(given["processes"])
