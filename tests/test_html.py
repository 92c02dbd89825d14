"""What a notebook shows of an assignment and of an explanation."""

from __future__ import annotations

import html.parser
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

COST = np.array([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]])


class Parser(html.parser.HTMLParser):
    """Collects the texts of cells and lines, and sees that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(thing: Any) -> list[str]:
    return Parser(thing._repr_html_()).texts


def test_one_problem() -> None:
    expected = [
        "2 pairs, cost 0.3, duality gap 0",
        "row", "column", "0", "1", "1", "0",
        "columns without a pair: 2",
    ]  # fmt: skip
    assert shown(hc.assign(COST)) == expected


def test_a_batch_shows_its_first_problems() -> None:
    cost = np.broadcast_to(COST, (2, 3, 2, 3)).copy()
    cost[0, 1] = np.nan
    found = shown(hc.Assignment(*hc.solve(hc.Problem(cost), backend=hc.get_backend("numpy"))[:5]))
    assert found[0] == "Assignment of 6 problems of shape (2, 3), batch shape (2, 3), in numpy"
    assert "layer 0, sample 0: 2 pairs, cost 0.3, duality gap 0" in found
    assert "layer 0, sample 1: no matching: costs are invalid, or it is infeasible" in found
    assert found[-1] == "... and 2 more: index the fields"


def test_a_huge_one_is_cut_short() -> None:
    rng = np.random.default_rng(0)
    match = hc.assign(rng.random((50, 100, 90)))
    text = match._repr_html_()
    assert text is not None
    assert len(text) < 5_000
    assert "70 more pairs" in Parser(text).texts
    assert "... and 46 more: index the fields" in Parser(text).texts


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 2, 3)])
def test_of_nothing(shape: tuple[int, ...]) -> None:
    assert "0" in shown(hc.assign(np.zeros(shape)))[0]


def test_text_is_escaped() -> None:
    names = ["<script>alert(1)</script>", "a & b"]
    explained = hc.explain(hc.assign(COST), {"<b>": COST}, row_names=names)
    text = explained._repr_html_()
    assert "<script>" not in text
    assert "<b><b>" not in text
    assert "0 <script>alert(1)</script>" in Parser(text).texts
    assert "<b>" in Parser(text).texts  # the term


def test_an_explanation_shows_what_its_text_does() -> None:
    explained = hc.explain(hc.assign(COST), COST)
    words = explained.text().split()
    assert " ".join(shown(explained)).split() == words


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_of_a_framework(name: str) -> None:
    module = pytest.importorskip(f"hungarian_{name}", exc_type=ImportError)
    assert shown(module.assign(COST))[1:] == shown(hc.assign(COST))[1:]


def test_symbols_have_no_values_to_show() -> None:
    jax = pytest.importorskip("jax")
    module = pytest.importorskip("hungarian_jax", exc_type=ImportError)
    seen: list[Any] = []

    def program(cost: Any) -> Any:
        match = module.assign(cost)
        seen.append(match._repr_html_())
        return match.cost

    jax.jit(program)(COST)
    assert seen == [None]
