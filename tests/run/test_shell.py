"""The scripts that make the environment: one clear line where they cannot, no work where it is done."""

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def _prepare(tmp_path, venv, path):
    script = (
        f'set -euo pipefail; source "{REPO}/launch/_environment.sh"; prepare_environment ""; "$PYTHON" -c "print(1)"'
    )
    environment = {"PATH": path, "HOME": str(tmp_path / "home"), "ATNAS_VENV": str(venv)}
    return subprocess.run(
        ["/bin/bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )


def _tools(tmp_path, python):
    """A folder with the few tools that the script needs and `python` as the text of python3."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("dirname", "cat", "cksum", "ls"):
        source = next(d for d in os.environ["PATH"].split(os.pathsep) if os.path.exists(os.path.join(d, tool)))
        (folder / tool).symlink_to(os.path.join(source, tool))
    (folder / "python3").write_text(f"#!/bin/bash\n{python}\n")
    (folder / "python3").chmod(0o755)
    return str(folder)


def test_a_python_that_is_too_old_is_one_line(tmp_path):
    old = 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac'
    done = _prepare(tmp_path, tmp_path / "venv", _tools(tmp_path, old))
    assert done.returncode == 2
    assert done.stderr == "atnas_jax: needs Python 3.11 or newer; python3 here is: Python 3.9.2\n"


def test_a_python_without_venv_is_one_line(tmp_path):
    bare = 'case "$1" in --version) echo Python 3.12.1;; -m) exit 1;; esac'
    done = _prepare(tmp_path, tmp_path / "venv", _tools(tmp_path, bare))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "install its venv module" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    done = _prepare(tmp_path, tmp_path / "mine", os.environ["PATH"])
    assert done.returncode == 2
    assert "is no virtual environment" in done.stderr
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_an_environment_with_a_fresh_stamp_is_used_as_it_is(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (next((venv / "lib").glob("python3*")) / "site-packages" / "pip.py").write_text("")
    sums = subprocess.run(
        f"cat {REPO}/setup.py {REPO}/pyproject.toml | cksum", shell=True, capture_output=True, text=True, check=True
    )
    (venv / ".atnas_jax").write_text(f"{sums.stdout.strip()} {REPO}\n")
    done = _prepare(tmp_path, venv, os.environ["PATH"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
