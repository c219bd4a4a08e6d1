"""Bad input of every kind: one line that names the culprit, status 2 and nothing written.

test_launchers.py and test_launch.py have more cases.
"""

import fcntl
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SETTINGS = [  # setting, value, what the line says
    ("search.generatons", "3", "the nearest is 'search.generations'"),
    ("serch.generations", "3", "the nearest is 'search.generations'"),
    ("train.steps", "x", "train.steps"),
    ("train.steps", "0", "train.steps is 0; it must be 1 or more"),
    ("train.steps", "1.5", "train.steps"),
    ("train.steps", "8000000000", "whole numbers are at most"),
    ("train.rotations", "maybe", "train.rotations"),
    ("train.outer_lr", "nan", "train.outer_lr is nan"),
    ("train.outer_lr", "-1", "train.outer_lr is -1"),
    ("train.nonfinite_limit", "0", "train.nonfinite_limit is 0"),
    ("train.chunk", "3", "not a multiple of train.chunk 3"),
    ("train.task_batch", "2", "take net.execution 'folded'"),
    ("train.ways", "33", "ways=33 but meta_train of npz:tiny.npz has 32 classes"),
    ("train.queries", "10", "shots + queries = 11 needed"),
    ("protocol.ways", "1", "protocol.ways is 1; it must be 2 or more"),
    ("protocol.ways", "7", "ways=7 but meta_valid of npz:tiny.npz has 6 classes"),
    ("protocol.queries", "10", "shots + queries = 11 needed"),
    ("search.population", "1", "search.population is 1; it must be 2 or more"),
    ("search.generations", "100", "too few for search.generations 100"),
    ("search.strategy", "genetc", "allowed: 'random', 'genetic'"),
    ("search.objectives", "('params',)", "the first 'accuracy'"),
    ("search.objectives", "([],)", "search.objectives has []"),
    ("search.options.elites", "4", "must be less than search.population 4"),
    ("search.options.kappa", "two", "search.options.kappa"),
    ("search.max_params", "1", "leave none of 4096 random genotypes"),
    ("search.latency", "/nowhere.json", "/nowhere.json does not exist"),
    ("search.latency", "ROOT/text.npz", "is no table of launch.measure_latency"),
    ("adapt.population", "1", "adapt.population is 1"),
    ("adapt.folds", "1", "adapt.folds is 1"),
    ("learner.name", "mamal", "learner.name is 'mamal'"),
    ("learner.inner_steps", "-1", "learner.inner_steps is -1"),
    ("net.normalisation", "batch", "net.normalisation is 'batch'"),
    ("seed", "-1", "seed is -1"),
    ("log.keep", "0", "log.keep is 0"),
    ("meta_test.rows", "('oracle',)", "meta_test.rows has 'oracle'"),
    ("meta_test.rows", "()", "meta_test.rows is empty"),
    ("space.family", "ring", "space.family is 'ring'"),
    ("space.chain.ops", "('conv9',)", "unknown op 'conv9'"),
    ("space.chain.ops", "()", "space.chain.ops is empty"),
    ("space.chain.ops", "('conv1',)", "needs op 'conv3'"),
    ("space.chain.widths", "(8, 4)", "widths (8, 4) must be positive integers in ascending order"),
    ("space.chain.widths", "('a', 'b')", "space.chain.widths has 'a', a str"),
    ("space.chain.depths", "(1, 3)", "the last of depths is 3"),
    ("space.chain.strides", "(2, 3)", "strides (2, 3)"),
    ("data.image_size", "100000", "data.image_size is 100000; it must be from 0 to 4096"),
    ("data.channels", "2", "data.channels is 2"),
    ("data.split", "random:1/2", "split 'random:1/2'"),
    ("data.split", "file:/nowhere.txt", "/nowhere.txt does not exist"),
    ("data.protocol", "omniglot", "protocol omniglot"),
    ("data.protocol", "nope", "nope"),
    ("data.source", "", "no known kind"),
    ("data.source", "nowhere.npz", "nowhere.npz does not exist"),
    ("data.source", "tfds:nowhere@ROOT", "nowhere"),
    ("data.source", "glyphs:size=3", "size"),
    ("data.source", "ROOT/text.npz", "text.npz cannot be read"),
    ("data.source", "ROOT/cut.npz", "cut.npz cannot be read"),
    ("data.source", "ROOT/objects.npz", "holds Python objects"),
    ("data.source", "ROOT/absurd.npz", "and holds 4"),
    ("data.source", "ROOT/no_labels.npz", "lacks labels"),
    ("data.source", "ROOT/float.npz", "images are float32"),
    ("data.source", "ROOT/negative.npz", "labels are int64"),
    ("data.source", "ROOT/labels.npz", "labels reach 2000000000"),
    ("data.source", "ROOT/names.npz", "one entry a class"),
    ("data.source", "ROOT/twice.npz", "a class belongs to one split"),
    ("data.source", "ROOT/text.tar", "text.tar cannot be read"),
    ("data.source", "ROOT/not_images", "k/a.png: not a readable image"),
    ("data.source", "ROOT/huge", "900000000 pixels"),
    ("data.source", "ROOT/heavy", "k/a.png: 300,000,000 bytes, at most 202,375,168"),
    ("data.source", "ROOT/heavy.tar", "k/a.png: 300,000,000 bytes, at most 202,375,168"),
    ("data.source", "ROOT/empty", "holds no images"),
]
LINES = {
    "search": [
        ([], "config"),
        (["--config=ROOT/nowhere.py", "--workdir=ROOT/new"], "nowhere.py"),
        (["--config=ROOT/syntax.py", "--workdir=ROOT/new"], "invalid syntax"),
        (["--config=ROOT/raises.py", "--workdir=ROOT/new"], "on purpose"),
        (["--config=ROOT/nothing.py", "--workdir=ROOT/new"], "get_config"),
        (["TINY"], "workdir"),
        (["TINY", "--workdir=ROOT/new", "stray"], "unknown argument 'stray'"),
        (["TINY", "--workdir=ROOT/new", "--cpu_devices=-1"], "cpu_devices"),
        (["TINY", "--workdir=ROOT/new", "--workdri=x"], "workdri"),
        (["TINY", "--workdir=ROOT/text.npz"], "text.npz"),
        (["TINY", "--workdir=ROOT/locked"], "is in use by"),
        (["TINY", "--workdir=ROOT/other"], "other settings (train.steps)"),
        (["TINY", "--workdir=ROOT/other", "--accept_changes"], "other settings (train.steps)"),
        (["TINY", "--workdir=ROOT/no_config"], "config.json is damaged"),
        (["SHORT", "--workdir=ROOT/no_results"], "results.json is damaged"),
        (["SHORT", "--workdir=ROOT/schema"], "results.json"),
        (["SHORT", "--workdir=ROOT/damaged", "--quiet"], "are damaged"),
    ],
    "meta_test": [
        (["--workdir=ROOT/empty"], "holds no finished search"),
        (["--workdir=ROOT/finished", "--episodes=1"], "episodes"),
        (["--workdir=ROOT/finished", "--queries=1000"], "shots + queries = 1001 needed"),
        (["--workdir=ROOT/finished", "--quiet=maybe"], "quiet"),
        (["--workdir=ROOT/finished", "--margin=-2"], "adapt.margin is -2.0"),
        (["--workdir=ROOT/finished", "--source=ROOT/gone.npz"], "gone.npz does not exist"),
        (["--workdir=ROOT/finished", "--source=ROOT/changed.npz"], "is no longer the data of this run"),
        (["--workdir=ROOT/no_results"], "results.json is damaged"),
        (["--workdir=ROOT/vanished"], "gone.npz does not exist"),
        (["--workdir=ROOT/changed"], "is no longer the data of this run"),
        (["--workdir=ROOT/behind", "--quiet"], "no sound checkpoint of the finished search"),
    ],
    "adapt": [
        (["--support=ROOT/two", "--query=ROOT/two", "--out=ROOT/out", "--workdir=ROOT/empty"], "does not exist"),
        (["--support=ROOT/two", "--query=ROOT/two", "--out=ROOT/out", "--workdir=ROOT/text.npz"], "no meta-network"),
        (["RUN", "--support=ROOT/nowhere", "--query=ROOT/two"], "nowhere does not exist"),
        (["RUN", "--support=ROOT/one", "--query=ROOT/two"], "need at least 2 class folders"),
        (["RUN", "--support=ROOT/stray", "--query=ROOT/two"], "stray.png lies beside class folders"),
        (["RUN", "--support=ROOT/two", "--query=ROOT/empty"], "holds no images"),
        (["RUN", "--support=ROOT/two", "--query=ROOT/one"], "class 'z' has no support images"),
        (["RUN", "--support=ROOT/two", "--query=ROOT/two", "--population=1"], "population"),
        (["RUN", "--support=ROOT/two", "--query=ROOT/two", "--out=ROOT/text.npz"], "text.npz: file exists"),
    ],
    "check_data": [
        (["--source=ROOT/nowhere"], "nowhere"),
        (["DATA", "--ways=9"], "ways=9 but meta_train"),
        (["DATA", "--ways=1"], "need ways >= 2"),
        (["DATA", "--split=nope"], "split 'nope' is unknown"),
        (["DATA", "--image_size=-1"], "image_size"),
        (["DATA", "--part=all"], "part"),
    ],
    "compare_strategies": [
        (["--table=nb202:x"], "table 'nb202:x' is unknown"),
        (["--table=nb201:ROOT/text.npz"], "text.npz cannot be read"),
        (["--table=nb201:ROOT/float.npz"], "it has no array"),
        (["--strategies=genetc"], "strategy 'genetc' is unknown"),
        (["--limit=sum"], "limit 'sum' is unknown"),
        (["--seeds=0"], "seeds"),
    ],
    "prepare_tfds": [(["DATA", "--name=My Data", "--out=ROOT/out"], "name 'My Data'"), (["DATA", "--name=x"], "out")],
    "measure_latency": [
        (["--config=ROOT/nowhere.py", "--out=ROOT/x.json"], "nowhere.py"),
        (["TINY", "--out=ROOT/text.npz/x.json"], "text.npz: file exists"),
        (["TINY", "--out=ROOT/two"], "two: is a directory"),
    ],
    "benchmark": [
        (["--suite=nope"], "suite"),
        (["--out=ROOT/text.npz/new/x.json"], "text.npz/new: not a directory"),
        (["--plot=ROOT/text.npz/x.png"], "text.npz: file exists"),
    ],
    "specialise": [(["RUN", "IMAGES", "--out=ROOT/text.npz"], "text.npz: file exists")],
    "traffic": [
        (["TINY", "--devices=4"], "devices has '4'; it must be TASKSxPOPULATION"),
        (["TINY", "--devices=2x1,0x2"], "devices has '0x2'"),
    ],
}


def _npz_with(header, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            for piece in data:
                member.write(piece)
    return file.getvalue()


def _data(root):
    images, labels = np.zeros((4, 3, 3), np.uint8), np.array([0, 0, 1, 1])
    np.savez(root / "objects.npz", images=np.array([{}], object), labels=labels)
    np.savez(root / "no_labels.npz", images=images)
    np.savez(root / "float.npz", images=images.astype(np.float32), labels=labels)
    np.savez(root / "negative.npz", images=images, labels=labels - 1)
    np.savez(root / "labels.npz", images=images, labels=labels * 2_000_000_000)
    np.savez(root / "names.npz", images=images, labels=labels, class_names="a")
    split = ["meta_train", "meta_test"]
    np.savez(root / "twice.npz", images=images, labels=labels, class_names=["a", "a"], class_split=split)
    whole = (root / "negative.npz").read_bytes()
    (root / "cut.npz").write_bytes(whole[: len(whole) // 2])
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28)}\n"
    (root / "absurd.npz").write_bytes(_npz_with(header % 2**40, [b"1234"]))
    for name in ("text.npz", "text.tar"):
        (root / name).write_text("no archive")
    small = Image.new("L", (10, 10))
    for name, files in {
        "two": ("x/0.png", "y/0.png"), "one": ("z/0.png",), "stray": ("x/0.png", "stray.png"), "empty": (),
    }.items():  # fmt: skip
        (root / name).mkdir()
        for file in files:
            (root / name / file).parent.mkdir(exist_ok=True)
            small.save(root / name / file)
    (root / "not_images" / "k").mkdir(parents=True)
    (root / "not_images" / "k" / "a.png").write_text("text")
    (root / "huge" / "k").mkdir(parents=True)
    (root / "heavy" / "k").mkdir(parents=True)
    (root / "heavy" / "k" / "a.png").touch()
    os.truncate(root / "heavy" / "k" / "a.png", 300_000_000)  # takes no room
    member = tarfile.TarInfo("k/a.png")
    member.size = 300_000_000
    (root / "heavy.tar").write_bytes(member.tobuf())
    os.truncate(root / "heavy.tar", 301_000_000)
    buffer = io.BytesIO()
    small.save(buffer, "BMP")
    bmp = bytearray(buffer.getvalue())
    bmp[18:26] = (30000).to_bytes(4, "little") * 2
    (root / "huge" / "k" / "a.bmp").write_bytes(bmp)


def _configs(root):
    (root / "syntax.py").write_text("def get_config(:\n")
    (root / "raises.py").write_text("def get_config():\n    raise RuntimeError('on purpose')\n")
    (root / "nothing.py").write_text("x = 1\n")


def _turned(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _runs(root, short, finished):
    def copy(name, run=short):
        return Path(shutil.copytree(run.workdir, root / name))

    copy("finished")
    (copy("no_results") / "results.json").write_text("{")
    (copy("schema") / "results.json").write_text("[1]")
    for name in ("locked", "other", "no_config"):
        (root / name).mkdir()
    (root / "no_config" / "config.json").write_text('{"seed": ')
    config = json.loads(finished.config.to_json())
    (root / "other" / "config.json").write_text(json.dumps(config | {"train": config["train"] | {"steps": 80}}))
    damaged = copy("damaged")
    (damaged / "results.json").unlink()
    for path in damaged.glob("checkpoints/*/note/metadata"):
        _turned(path)
    behind = copy("behind")
    last = max((behind / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(last)
    record = json.loads(short.config.to_json())
    for name, source in (("vanished", "gone.npz"), ("changed", "changed.npz")):
        record["data"]["source"] = str(root / source)
        (copy(name) / "config.json").write_text(json.dumps(record))
    with np.load(short.config.data.source) as file:
        arrays = dict(file)
    arrays["images"][0, 0, 0] ^= 1
    np.savez(root / "changed.npz", **arrays)


@pytest.fixture(scope="module")
def root(short, finished, tmp_path_factory):
    """A folder of bad files of every kind, with a held lock."""
    folder = tmp_path_factory.mktemp("bad")
    _data(folder)
    _configs(folder)
    _runs(folder, short, finished)
    with open(folder / "locked" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _files(root):
    """Return size and time of every file below root but locks, and every folder."""
    found = {path: path.lstat() for path in root.rglob("*") if path.name != ".lock"}
    return {str(path): (0, 0) if path.is_dir() else (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def _cases(module, root, short):
    data = short.config.data.source
    tiny = ["--config=tests/run/tiny.py", f"--config.data.source={data}"]
    rows = ["--config.meta_test.rows=('adapted', 'best', 'conv4')", "--config.meta_test.other_normalisation=False"]
    words = {"TINY": tiny, "SHORT": tiny + rows, "DATA": [f"--source={data}"], "IMAGES": [f"--data={data}"]}
    words["RUN"] = [f"--workdir={short.workdir}", "--out=ROOT/out"]
    for line, says in LINES[module]:
        yield [flag.replace("ROOT", str(root)) for word in line for flag in words.get(word, [word])], says
    for name, value, says in SETTINGS if module == "search" else ():
        yield [*tiny, "--workdir=" + str(root / "new"), f"--config.{name}={value.replace('ROOT', str(root))}"], says


@pytest.mark.parametrize("module", LINES)
def test_each_is_refused_in_one_line_and_nothing_is_written(command, root, short, module):
    wrong, before = [], _files(root)
    for flags, says in _cases(module, root, short):
        done = command(module, *flags)
        quiet = done.stdout == "" or module == "check_data"  # which tells what it has found before
        fine = done.returncode == 2 and quiet and done.stderr.startswith("error: ") and says in done.stderr
        now = _files(root)
        if not (fine and len(done.stderr.splitlines()) == 1 and now == before):
            wrong.append((flags, says, done, sorted(dict(before.items() ^ now.items()))))
        before = now
    assert wrong == [], "\n".join(map(str, wrong))


def test_there_are_enough_cases_and_no_two_are_the_same(root, short):
    flags = [(module, *flags) for module in LINES for flags, _ in _cases(module, root, short)]
    assert len(set(flags)) == len(flags) >= 100


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    from atnas_jax.data import npz

    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28)}\n" % (2**16)
    (tmp_path / "bomb.npz").write_bytes(_npz_with(header, [bytes(2**16)] * 784))
    assert os.path.getsize(tmp_path / "bomb.npz") < 2**20
    monkeypatch.setattr(npz, "_memory", lambda: 2**25)
    monkeypatch.setattr(npz.np, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match="its arrays take 51,380,224 bytes and this machine has 33,554,432"):
        npz.load_arrays(str(tmp_path / "bomb.npz"))
