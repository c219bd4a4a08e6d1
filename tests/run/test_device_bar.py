"""The command that compares devices reads what finished runs say, and fails where they are too far apart."""

import json
import shutil
import sys

import numpy as np
import pytest

from tools import device_bar


def _planted(folder, results=lambda text: text, **arrays):
    """Change a finished run: its results.json as text, and arrays of its weights and population."""
    path = folder / "results.json"
    path.write_text(results(path.read_text()))
    with np.load(folder / "meta_network.npz") as file:
        kept = {name: file[name] for name in file.files}
    np.savez(folder / "meta_network.npz", **kept | {name: change(kept[name]) for name, change in arrays.items()})


def _weight(folder):
    with np.load(folder / "meta_network.npz") as file:
        return next(name for name in file.files if file[name].dtype.kind == "f" and file[name].any())


def _other_accuracy(text):
    results = json.loads(text)
    results["meta_test"]["adapted"]["accuracy"] += 2e-4 if results["meta_test"]["adapted"]["accuracy"] < 0.5 else -2e-4
    return json.dumps(results)


@pytest.mark.parametrize("kind", ["steps", "search"])
@pytest.mark.parametrize(
    ("what", "fails", "says"),
    [
        ("nothing", (), "same"),
        ("a weight, hardly", (), "weights 5e-06"),
        ("a weight", ("steps",), "weights 2e-05"),
        ("an accuracy", ("search",), "accuracy 0.0002"),
        ("the genotype", ("search",), "genotype OTHER"),
        ("the population", (), "population OTHER"),
    ],
)
def test_differences_that_are_planted_are_found(short, tmp_path, monkeypatch, capsys, kind, what, fails, says):
    for name in ("1", "2_processes"):
        (tmp_path / name).mkdir()
        shutil.copytree(short.workdir, tmp_path / name / kind, ignore=shutil.ignore_patterns("checkpoints"))
    other = tmp_path / "2_processes" / kind
    if "weight" in what:
        by = 5e-6 if "hardly" in what else 2e-5
        _planted(other, **{_weight(other): lambda x: (x.astype(np.float64) + by).astype(np.float32)})
    elif what != "nothing":
        _planted(other, *{
            "an accuracy": [_other_accuracy],
            "the genotype": [lambda text: text.replace(short.results["genotype"], "chain:d1/conv3-4")],
        }.get(what, []), **({"population": lambda x: x[::-1] + 1} if what == "the population" else {}))  # fmt: skip
    argv = ["device_bar", f"--out={tmp_path}", f"--kinds={kind}", "--layouts=1,2 processes"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(device_bar.subprocess, "Popen", lambda *_, **__: pytest.fail("a finished run was run"))
    with pytest.raises(SystemExit) as ended:
        device_bar.main()
    assert ended.value.code == int(kind in fails)
    assert says in capsys.readouterr().out.splitlines()[1]
    written = json.loads((tmp_path / "device_bar.json").read_text())
    assert [row["holds"] for row in written] == [True, kind not in fails]


def test_its_commands_are_of_launch_search(command, tmp_path):
    shown = command("search", "--helpfull").stdout
    for name, layout in device_bar.LAYOUTS.items():
        calls = device_bar.commands(layout, "configs/quickstart.py", tmp_path, [])
        assert len(calls) == layout.processes
        assert layout.mesh == "" or np.prod([int(part.split(":")[1]) for part in layout.mesh.split(",")]) == (
            layout.devices * layout.processes
        ), name
        for flag in (flag for call in calls for flag in call[3:]):
            name = flag.removeprefix("--").split("=")[0]
            assert f"--{name}:" in shown or f"--[no]{name}:" in shown, flag


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"exit\(3\) failed; see .*said.txt"):
        device_bar.run([[sys.executable, "-c", "exit(3)"]], tmp_path, 0)


def test_every_layout_has_the_threads_that_are_asked_for(tmp_path):
    device_bar.run([[sys.executable, "-c", "import os; print(os.environ['NPROC'])"]], tmp_path, 5)
    assert (tmp_path / "said.txt").read_text() == "5\n"
