"""The documentation's own search finds what people look for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(package, reason="it makes the pages")

DOCS = Path(__file__).resolve().parents[1] / "docs"
ASKED = (
    ("gpu", {"gpu", "recipes"}),
    ("cuda", {"gpu"}),
    ("tracking", {"coming-from/trackers", "recipes"}),
    ("tracker", {"coming-from/trackers"}),
    ("matcher", {"coming-from/detr", "coming-from/index", "recipes"}),
    ("lapjv", {"coming-from/trackers", "api"}),
    ("scipy", {"coming-from/scipy"}),
    ("dataloader", {"recipes"}),
    ("nan", {"recipes", "matching"}),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the index that the search of the built pages reads."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", DOCS, folder], check=True, timeout=300)
    text = (folder / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return found


@pytest.mark.parametrize(("word", "pages"), ASKED, ids=[word for word, _ in ASKED])
def test_found(index: dict[str, Any], word: str, pages: set[str]) -> None:
    """By the stem of the word, as the page's script looks for it."""
    from sphinx.search.en import SearchEnglish

    stem = SearchEnglish({}).stem(word)
    found: set[int] = set()
    for terms in (index["terms"], index["titleterms"]):
        places = terms.get(stem, [])
        found |= set(places) if isinstance(places, list) else {places}
    assert pages <= {index["docnames"][k] for k in found}
