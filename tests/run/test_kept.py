"""Programs kept from one process to the next."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.devices import make_mesh
from atnas_jax.job import kept
from atnas_jax.job.compiled import compiled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(kept.PROGRAMS, str(tmp_path / "programs"))
    return tmp_path / "programs"


TRACED = []  # the factor of each trace; no closure holds it


def times(factor, *unused):
    def product(x):
        TRACED.append(factor)
        return {"product": factor * x["x"], "norms": [jnp.sqrt(x["x"] @ x["x"]), x["x"].sum()] if unused else ()}

    return product


def run(factor, number=1, *unused):
    """Return the result of a program made anew, and how often it was traced."""
    before, x = len(TRACED), np.arange(1.0, 4.0, dtype=np.float32) * number
    found = compiled(times(factor, *unused), {"compile_s": 0.0}, donate=(0,), mesh=make_mesh(2))({"x": x})
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
    monkeypatch.setattr(kept, "compile_lowered", None)
    assert [run(2.0, 1, "another")[1] for _ in range(2)] == [1, 0]


def test_what_cannot_be_told_is_kept_by_its_text_alone(folder, monkeypatch):
    run(2.0, 1, object())
    monkeypatch.setattr(kept, "compile_lowered", None)
    assert [run(2.0, 1, object())[1] for _ in range(2)] == [1, 1]


def test_a_file_that_is_damaged_is_made_again(folder):
    run(2.0)
    for file in folder.iterdir():
        if not file.is_symlink():
            file.write_bytes(file.read_bytes()[:100])
    assert [run(2.0)[1] for _ in range(2)] == [1, 0]


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
import jax
from atnas_jax.job.compiled import compiled, keep_compiled
from other import factor

traced = []

def program(x):
    print("traced", end=" ")
    return factor() * x

keep_compiled()
print(float(compiled(program, {"compile_s": 0.0})(2.0)))
"""


def test_another_process_loads_it_unless_a_source_was_edited(tmp_path):
    def said(factor, **variables):
        (tmp_path / "other.py").write_text(f"def factor():\n    return {factor}\n")
        environment = {k: v for k, v in os.environ.items() if k != kept.PROGRAMS}
        environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")} | variables
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True).stdout.strip()

    assert [said(3), said(3)] == ["traced 6.0", "6.0"]
    assert [said(10), said(10)] == ["traced 20.0", "20.0"]
    assert said(10, JAX_COMPILATION_CACHE_DIR="") == "traced 20.0"
