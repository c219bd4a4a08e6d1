"""The commands as a user runs them: one success and one refusal of each."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from atnas_jax.job.results import results_table
from atnas_jax.study.seeds import seeds_table

COUNTS = (3, 2, 5)  # support images of each class


@pytest.fixture(scope="module")
def folders(classes, tmp_path_factory):
    """Class folders of a few images for each of three classes, and a flat folder of queries."""
    root = tmp_path_factory.mktemp("folders")
    (root / "query").mkdir()
    for label, rows in enumerate(classes[14:17]):
        (root / "support" / f"kind{label}").mkdir(parents=True)
        for number in range(COUNTS[label]):
            Image.fromarray(rows[number]).save(root / "support" / f"kind{label}" / f"{number}.png")
        Image.fromarray(rows[5]).save(root / "query" / f"{label}.png")
    return root


def _refused(done, says):
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
    assert says in done.stderr


def test_search_shows_the_table_of_a_finished_run(command, short, tiny_data):
    flags = ["--config=tests/run/tiny.py", f"--config.data.source={tiny_data}", f"--workdir={short.workdir}"]
    rows = ["--config.meta_test.rows=('adapted', 'best', 'conv4')", "--config.meta_test.other_normalisation=False"]
    done = command("search", *flags, *rows)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == results_table(short.results) + f"\nreport   {short.workdir}/report.html\n"
    assert "3-way 1-shot" in (Path(short.workdir) / "report.html").read_text()
    _refused(command("search", *flags), "other settings (meta_test.other_normalisation, meta_test.rows)")


def test_meta_test(command, short, tmp_path):
    workdir = shutil.copytree(short.workdir, tmp_path / "copy")
    done = command("meta_test", f"--workdir={workdir}", "--episodes=6", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == results_table(short.results) + f"\nreport   {workdir}/report.html\n"
    _refused(command("meta_test", f"--workdir={tmp_path}"), "holds no finished search")


def test_seeds(command, short, tiny_data, tmp_path):
    for seed in (0, 1):  # finished runs, which are not run again
        workdir = shutil.copytree(short.workdir, tmp_path / f"seed{seed}", ignore=shutil.ignore_patterns("report.html"))
        for name in ("config.json", "results.json"):
            record = json.loads((workdir / name).read_text())
            (record["config"] if name == "results.json" else record)["seed"] = record["seed"] = seed
            (workdir / name).write_text(json.dumps(record))
    flags = ["--config=tests/run/tiny.py", f"--config.data.source={tiny_data}", f"--workdir={tmp_path}", "--seeds=2"]
    rows = ["--config.meta_test.rows=('adapted', 'best', 'conv4')", "--config.meta_test.other_normalisation=False"]
    done = command("seeds", *flags, *rows)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == seeds_table(json.loads((tmp_path / "seeds.json").read_text())) + "\n"
    assert "mean ± standard deviation over the 2 seeds 0, 1" in done.stdout
    assert all((tmp_path / f"seed{seed}" / "report.html").exists() for seed in (0, 1))
    _refused(command("seeds", f"--runs={tmp_path / 'seed0'}"), "2 or more")


def test_adapt(command, finished, folders, tmp_path):
    flags = [f"--workdir={finished.workdir}", f"--query={folders / 'query'}", f"--out={tmp_path / 'out'}"]
    done = command("adapt", *flags, f"--support={folders / 'support'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 classes, 10 support and 3 query images\narchitecture chain:")
    summary = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert summary["classes"] == ["kind0", "kind1", "kind2"]
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 4
    assert done.stdout.endswith(f"\nreport   {tmp_path / 'out' / 'report.html'}\n")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="card"') == 3 and f"--out={tmp_path / 'out'}" in page and summary["genotype"] in page
    again = command("report", f"--workdir={tmp_path / 'out'}", f"--out={tmp_path / 'again.html'}")
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "again.html").read_text() == page
    _refused(command("adapt", *flags, "--support=/nowhere"), "/nowhere")


def test_check_data(command, tiny_data):
    done = command("check_data", f"--source={tiny_data}", "--ways=3", "--shots=1", "--queries=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3-way 1-shot, 5 queries a class, fit into meta_train" in done.stdout
    _refused(command("check_data", "--source=nowhere.npz"), "nowhere.npz does not exist")


def test_prepare_tfds(command, tiny_data, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    flags = [f"--source={tiny_data}", f"--out={tmp_path}"]
    done = command("prepare_tfds", *flags, "--name=tiny")
    assert done.returncode == 0, done.stderr
    assert "200 images of 20 classes from npz:tiny.npz" in done.stdout
    _refused(command("prepare_tfds", *flags, "--name=My Data"), "name 'My Data'")


def test_compare_strategies(command, tmp_path):
    out = tmp_path / "out"
    done = command("compare_strategies", "--strategies=genetic", "--seeds=2", "--evaluations=40", f"--out={out}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (out / "comparison.txt").read_text()
    assert {path.name for path in out.iterdir()} == {"comparison.txt", "comparison.json", "regret.png"}
    _refused(command("compare_strategies", "--table=nb201:/nowhere.npz"), "/nowhere.npz")


@pytest.mark.parametrize(
    "module",
    ["search", "meta_test", "seeds", "report", "adapt", "check_data", "prepare_tfds", "compare_strategies"],
)
def test_help_says_what_the_command_does(command, module):
    done = command(module, "--help")
    assert done.returncode in (0, 1)  # absl ends --help with 1
    assert f"python -m launch.{module}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
