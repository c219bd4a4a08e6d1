"""Programs kept from one process to the next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.devices import make_mesh, spread
from atnas_jax.job import kept
from atnas_jax.job.compiled import compiled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    written = str(tmp_path_factory.getbasetemp())  # modules that other tests of this process wrote, and then loaded
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(written):
            monkeypatch.delitem(sys.modules, name)
    kept._source.cache_clear()
    monkeypatch.setenv(kept.PROGRAMS, str(tmp_path / "programs"))
    return tmp_path / "programs"


TRACED = []  # the factor of each trace; no closure holds it


def times(factor, *unused):
    def product(x):
        TRACED.append(factor)
        return {"product": factor * x["x"], "norms": [jnp.sqrt(x["x"] @ x["x"]), x["x"].sum()] if unused else ()}

    return product


def over(function):
    def program(x):
        return function(x)

    return program


def drawing(seed):
    key = jax.random.key(seed)
    return lambda x: x + jax.random.uniform(key)


def run(factor, number=1, *unused):
    """Return the result of a program made anew, and how often it was traced."""
    before, x = len(TRACED), np.arange(1.0, 4.0, dtype=np.float32) * number
    mesh = make_mesh(2)
    given = spread({"x": x}, mesh)
    found = compiled(times(factor, *unused), {"compile_s": 0.0}, donate=(0,), mesh=mesh)(given)
    assert given["x"].is_deleted()  # kept or not, the program reuses what was donated
    return found, len(TRACED) - before


def test_it_is_not_traced_again_and_gives_the_same_to_the_bit(folder):
    (first, once), (second, never), (other, still) = run(2.0), run(2.0), run(2.0, 3)
    assert (once, never, still) == (1, 0, 0)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    np.testing.assert_array_equal(other["product"], [6, 12, 18])
    assert second["product"].sharding.device_set == set(jax.devices()[:2])


def test_another_closure_is_another_program(folder):
    run(2.0)
    found, traced = run(3.0)
    assert traced == 1
    np.testing.assert_array_equal(found["product"], [3, 6, 9])


def test_the_same_text_by_another_closure_is_traced_and_not_compiled(folder, monkeypatch):
    run(2.0, 1, "one")
    monkeypatch.setattr(kept, "_without_cache", None)
    assert [run(2.0, 1, "another")[1] for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("results", [lambda x: [x], lambda x: (x,), lambda x: {"a": x, "b": None}, lambda x: {"a": x}])
def test_results_of_another_structure_are_those_of_another_program(folder, results):
    for other in (lambda x: [x], results):
        found = compiled(over(other), {"compile_s": 0.0})(2.0)
        assert jax.tree.structure(found) == jax.tree.structure(other(2.0))


def test_other_options_are_another_program(folder, monkeypatch):
    numbers = []
    for options in ({}, {"xla_cpu_enable_fast_math": True}):
        monkeypatch.setattr(kept, "options_for", lambda *_, options=options: options)
        compiled(over(jnp.sin), {"compile_s": 0.0})(2.0)
        monkeypatch.setattr(kept, "identity", lambda _: None)
        numbers.append(sum(not file.is_symlink() for file in folder.iterdir()))
    assert numbers == [1, 2]


def test_the_same_program_by_each_core_for_itself_is_another(folder):
    for by_core in (False, True, True):
        compiled(over(jnp.sin), {"compile_s": 0.0}, by_core=by_core)(2.0)
    assert sum(file.is_symlink() for file in folder.iterdir()) == 2


def test_a_typed_key_in_a_closure_is_told_apart(folder):
    found = [float(compiled(over(drawing(seed)), {"compile_s": 0.0})(0.0)) for seed in (0, 1, 0)]
    assert found[0] == found[2] != found[1]


def test_what_cannot_be_told_is_kept_by_its_text_alone(folder, monkeypatch):
    run(2.0, 1, object())
    monkeypatch.setattr(kept, "_without_cache", None)
    assert [run(2.0, 1, object())[1] for _ in range(2)] == [1, 1]


def test_a_file_that_is_damaged_is_made_again(folder):
    for damage in (lambda content: content[:100], lambda content: content[:-9] + b"?" + content[-8:]):
        run(2.0)
        for file in folder.iterdir():
            if not file.is_symlink():
                file.write_bytes(damage(file.read_bytes()))
        assert [run(2.0)[1] for _ in range(2)] == [1, 0]


def test_source_that_was_written_after_the_start_is_not_taken_for_what_runs(folder, monkeypatch):
    monkeypatch.setattr(kept, "_source", lambda: None)
    assert [run(2.0)[1] for _ in range(2)] == [1, 1]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(kept.PROGRAMS, str(tmp_path / "file"))
    found, traced = run(2.0)
    assert traced == 1
    np.testing.assert_array_equal(found["product"], [2, 4, 6])


def test_python_keeps_nothing_unless_it_is_told(monkeypatch):
    monkeypatch.delenv(kept.PROGRAMS, raising=False)
    assert [run(2.0)[1] for _ in range(2)] == [1, 1]


SCRIPT = """
import os
import sys
import other
from atnas_jax.job.compiled import compiled, keep_compiled

def program(x):
    print("traced", end=" ")
    return other.factor() * x

keep_compiled()
if sys.argv[1:]:
    os.utime(other.__file__)
print(float(compiled(program, {"compile_s": 0.0})(2.0)))
"""


def test_another_process_loads_it_unless_a_source_was_edited(tmp_path):
    def said(factor, *edited, **variables):
        (tmp_path / "other.py").write_text(f"def factor():\n    return {factor}\n")
        environment = {k: v for k, v in os.environ.items() if k != kept.PROGRAMS}
        environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")} | variables
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        return subprocess.run(
            [sys.executable, script, *edited], env=environment, capture_output=True, text=True
        ).stdout.strip()

    assert [said(3), said(3)] == ["traced 6.0", "6.0"]
    assert [said(10), said(10)] == ["traced 20.0", "20.0"]
    assert said(10, "edited") == "traced 20.0"  # while it ran, after it was imported
    assert said(10, JAX_COMPILATION_CACHE_DIR="") == "traced 20.0"


def test_a_second_start_of_a_search_finds_all_its_programs(tiny_data, tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "launch.search", "--config=tests/run/tiny.py", "--quiet"]
    changes = [f"--config.data.source={tiny_data}", "--config.meta_test.rows=('best',)"]
    changes += [f"--config.{name}=False" for name in ("meta_test.conv4", "meta_test.other_normalisation")]
    names, spent, weights = [], [], []
    for number in ("0", "1"):
        subprocess.run([*command, *changes, f"--workdir={tmp_path / number}"], env=environment, cwd=ROOT, check=True)
        names.append({file.name for file in (tmp_path / "cache" / "programs").iterdir()})
        spent.append(json.loads((tmp_path / number / "results.json").read_text())["ledger"]["compile_s"])
        weights.append((tmp_path / number / "meta_network.npz").read_bytes())
    assert names[0] == names[1] and {name.partition("-")[0] for name in names[0]} > {"train_chunk", "fitness", "score"}
    assert spent[1] < spent[0] / 2
    assert weights[0] == weights[1]
