"""The floors of the architecture: a file imports only from lower ones, and only some touch the disk."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
GROUND = {"types", "rng", "devices", "compiler"}
BELOW_3 = GROUND | {"data", "space", "search", "nets", "meta"}
HOST = {"job", "novel", "evidence", "run", "study", "many_shot"}
BELOW_4 = BELOW_3 | {"prefixes", "evaluate", "race", "pseudo", "adaptation", "incumbent", "proxies"}
MAY_IMPORT = {  # room of the package -> the rooms that it may import, besides itself
    "types": set(),
    "rng": {"types"},
    "devices": {"types"},
    "compiler": {"types", "devices"},
    "data": GROUND,
    "space": GROUND,
    "search": GROUND | {"space"},
    "nets": GROUND | {"space"},
    "meta": GROUND,
    "prefixes": BELOW_3,
    "evaluate": BELOW_3 | {"prefixes"},
    "race": BELOW_3 | {"prefixes", "evaluate"},
    "pseudo": BELOW_3,
    "adaptation": BELOW_3 | {"evaluate"},
    "incumbent": BELOW_3 | {"evaluate"},
    "proxies": BELOW_3,
    "job": BELOW_4,
    "novel": BELOW_4 | {"job"},
    "evidence": BELOW_4 | {"job", "novel"},
    "run": BELOW_4 | {"job", "novel", "evidence"},
    "study": BELOW_4 | {"job", "novel", "evidence", "run"},
    "many_shot": BELOW_4 | {"job", "novel", "evidence", "run", "study"},
    "bench": BELOW_4 | {"job"},
    "report": BELOW_4 | HOST,
    "export": BELOW_4 | HOST,
    "__init__": BELOW_4 | HOST | {"report", "export"},
}
TOUCH_THE_DISK = HOST | {"data", "bench", "report", "export"}
DISK = {"os", "pathlib", "shutil", "tempfile", "glob", "io"}
OWNERS = {  # outside package -> the only rooms that may import it
    "flax": {"nets"},
    "absl": {"launch"},
    "ml_collections": HOST | {"report", "launch"},
    "orbax": {"job"},
    "rich": {"job", "report"},
    "matplotlib": {"data", "study", "bench", "report"},
    "tensorboardX": {"run"},
    "tensorflow": set(),
    "torch": {"bench"},
    "sklearn": {"novel"},
}


def faults(path: Path, source: str) -> list[str]:
    """Return what breaks the floors in `source`, the text of the file at `path` relative to the repository."""
    room = "launch" if path.parts[0] == "launch" else path.parts[1].removesuffix(".py")
    if room not in MAY_IMPORT and room != "launch":
        return [f"{path}: the room {room!r} has no floor; give it one in tests/test_floors.py"]
    found = []
    for line, name in _imports(path, ast.parse(source)):
        top, *rest = name.split(".")
        if top == "atnas_jax" and room != "launch" and rest and rest[0] not in MAY_IMPORT[room] | {room}:
            found.append(f"{path}:{line}: {room} imports {rest[0]}")
        if top == "launch" and room != "launch":
            found.append(f"{path}:{line}: {room} imports launch")
        if top in OWNERS and room not in OWNERS[top]:
            found.append(f"{path}:{line}: {room} imports {top}")
        if top in DISK and room not in TOUCH_THE_DISK:
            found.append(f"{path}:{line}: {room} touches the disk by {top}")
    if room not in TOUCH_THE_DISK:
        found += [f"{path}:{call.lineno}: {room} opens a file" for call in _opens(ast.parse(source))]
    return found


def _imports(path: Path, tree: ast.AST):
    """Yield (line, dotted name) of everything imported; `from a import b` is a.b, relative imports are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.parts[: -node.level]) if node.level else []
            base = ".".join(package + ([node.module] if node.module else []))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _opens(tree: ast.AST):
    return (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    )


def sources() -> list[Path]:
    """Return all files of the package and the launchers, relative to the repository."""
    return sorted(p.relative_to(REPO) for top in ("atnas_jax", "launch") for p in (REPO / top).rglob("*.py"))


def test_every_file_imports_only_from_lower_floors():
    files = sources()
    assert len(files) > 20
    assert [fault for path in files for fault in faults(path, (REPO / path).read_text())] == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("atnas_jax/types.py", "import atnas_jax.rng", "types imports rng"),
        ("atnas_jax/search/x.py", "from atnas_jax.data import table", "search imports data"),
        ("atnas_jax/search/x.py", "from atnas_jax import nets", "search imports nets"),
        ("atnas_jax/space/x.py", "from ..search import genetic", "space imports search"),
        ("atnas_jax/space/x.py", "from .. import data", "space imports data"),
        ("atnas_jax/space/sub/x.py", "from ...search import genetic", "space imports search"),
        ("atnas_jax/meta/x.py", "def f():\n    import flax.linen as nn", "meta imports flax"),
        ("atnas_jax/nets/x.py", "import atnas_jax.evaluate", "nets imports evaluate"),
        ("atnas_jax/evaluate.py", "from atnas_jax.run.metrics import open_metrics", "evaluate imports run"),
        ("atnas_jax/job/x.py", "from atnas_jax.run import units", "job imports run"),
        ("atnas_jax/run/x.py", "from absl import flags", "run imports absl"),
        ("atnas_jax/run/x.py", "import launch.search", "run imports launch"),
        ("atnas_jax/data/x.py", "import tensorflow as tf", "data imports tensorflow"),
        ("atnas_jax/evaluate.py", "from pathlib import Path", "evaluate touches the disk by pathlib"),
        ("atnas_jax/meta/x.py", "open('x')", "meta opens a file"),
        ("launch/x.py", "import os", "launch touches the disk by os"),
        ("atnas_jax/attic/x.py", "", "the room 'attic' has no floor"),
    ],
)
def test_a_planted_fault_is_found(path, source, fault):
    found = faults(Path(path), source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("atnas_jax/search/x.py", "from atnas_jax.space.slots import SearchSpace\nfrom .genetic import genetic"),
        ("atnas_jax/nets/x.py", "import flax.linen as nn\nfrom atnas_jax.types import Array"),
        ("atnas_jax/run/x.py", "import os\nfrom atnas_jax.evaluate import evaluate\nopen('x')"),
        ("launch/x.py", "from absl import app\nfrom atnas_jax.run.search import across_task_search"),
    ],
)
def test_what_is_allowed_passes(path, source):
    assert faults(Path(path), source) == []
