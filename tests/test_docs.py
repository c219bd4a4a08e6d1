"""The pages of docs/: their Python runs as written, and their commands and links name what exists."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGES = [*sorted((REPO / "docs").glob("*.md")), REPO / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.mark.parametrize("page", [page for page in PAGES[:-1] if BLOCK.search(page.read_text())], ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(page):
    for code in BLOCK.findall(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)):
        assert (REPO / (module.replace(".", "/") + ".py")).exists() or module == "pip", module
    for path in set(re.findall(r"`((?:atnas_jax|configs|launch|tests|docs)/[\w/]+\.\w+)`", text)):
        assert (REPO / path).exists(), path
    for path in set(re.findall(r"\]\(([\w/.]+\.md)\)", text)):
        assert (page.parent / path).exists(), path
