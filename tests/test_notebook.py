"""The notebook of docs/: its cells run in order and come to what is stored in it."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "first_steps.ipynb"
MOST_BYTES = 150_000

pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.fixture(scope="module")
def cells():
    """The code cells, in order."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def _printed(cells):
    return "".join("".join(out["text"]) for cell in cells for out in cell["outputs"] if out["output_type"] == "stream")


def test_its_outputs_are_of_one_whole_run_and_small(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {out["output_type"] for cell in cells for out in cell["outputs"]} == {"stream", "execute_result"}
    assert {out["name"] for cell in cells for out in cell["outputs"] if "name" in out} == {"stdout"}
    assert sum("image/png" in out.get("data", {}) for cell in cells for out in cell["outputs"]) == 2
    assert NOTEBOOK.stat().st_size < MOST_BYTES


def test_its_cells_run_in_order_and_come_to_what_is_stored(cells, capsys):
    names = {"__name__": "first_steps"}
    for cell in cells:
        lines = [line for line in cell["source"] if not line.startswith("%")]  # Jupyter's own commands
        exec(compile("".join(lines), str(NOTEBOOK), "exec"), names)
    printed, stored = capsys.readouterr().out, _printed(cells)
    # Other compiler settings round otherwise: an image may change its class, and a near tie its architecture.
    share = re.compile(r"([\d.]+) % of 40 images are right")
    now, then = (float(share.search(text).group(1)) for text in (printed, stored))
    assert now >= 80 and abs(now - then) <= 5
    assert printed.splitlines()[:3] == stored.splitlines()[:3]  # the meta-network and the task
    assert len(printed.splitlines()) == len(stored.splitlines())
