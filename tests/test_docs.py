"""The documentation runs: its Python blocks, the outputs they show, the commands they name.

A block is a ```` ```python ```` fence. An HTML comment on the line before it says what it
needs: `<!-- needs: torch -->`. The blocks of a page with equal needs run in order, in one
namespace and a fresh interpreter. Output is shown as a comment at the end of the line that
prints it, ``print(x)  # 1.5``, and has to agree.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hungarian_core import Backend

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("coming-from/*.md"))]
RUNNABLE = {
    "README.md",
    "quickstart.md",
    "data.md",
    "matching.md",
    "losses.md",
    "sets.md",
    "inspection.md",
    "gradients.md",
    "hnet.md",
    "backends.md",
}

BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>[\w ]+) -->\n)?```python\n(?P<code>.*?)^```$", re.M | re.S
)
SHOWN = re.compile(r"^\s*print\(.*?\)(?:  # (?P<output>.*))?$", re.M)
UNSEEN = re.compile(r"^\s*(?:`{3,}\s*(?:py|python3|pycon|\{code.*\}.*)|`{3,}python .+)$", re.M)
INSTALL = re.compile(r"pip install [^`\n#]*?\"?(?P<what>[\w.-]*)\[(?P<extras>[\w,]+)\]")
SESSION = re.compile(r"nox -s \"?(?P<name>\w+)")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _groups() -> list[tuple[str, str, str]]:
    """Return (page, needs, program) for every set of blocks that runs together."""
    groups: dict[tuple[str, str], str] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            key = _name(page), block["needs"] or ""
            # Blank lines bring a traceback's line numbers to those of the page.
            before = text.count("\n", 0, block.start("code"))
            program = groups.get(key, "")
            groups[key] = program + "\n" * (before - program.count("\n")) + block["code"]
    return [(page, needs, program) for (page, needs), program in groups.items()]


GROUPS = _groups()


@pytest.mark.parametrize(
    ("page", "needs", "program"), GROUPS, ids=[f"{p}-{n or 'numpy'}" for p, n, _ in GROUPS]
)
def test_blocks_run_and_print_what_they_show(
    page: str, needs: str, program: str, tmp_path: Path
) -> None:
    missing = [name for name in needs.split() if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    shown = [line["output"] for line in SHOWN.finditer(program)]
    assert None not in shown, f"{page}: a print without the output it should show"
    script = tmp_path / "blocks.py"
    script.write_text(program, encoding="utf-8")
    # A Keras block chooses its backend itself, whatever the machine's default is.
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    ran = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment | {"PYTHONIOENCODING": "utf-8", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ran.returncode == 0, f"{page}, needs {needs or 'numpy'}:\n{ran.stderr}"
    assert ran.stdout.splitlines() == shown


COMING_FROM = [page for page in PAGES if page.parent.name == "coming-from"]
# A paragraph with "Now" that ends in a colon stands before the new call.
NOW = re.compile(
    r"^[^\n]*\bNow\b[^\n]*:\n\n(?:<!-- [^\n]* -->\n)?```python\n(.*?)^```$", re.M | re.S
)


@pytest.mark.parametrize("page", [x for x in COMING_FROM if x.stem != "index"], ids=_name)
def test_a_new_call_is_short(page: Path) -> None:
    """Three statements at most, imports apart; and each page is on the list of all."""
    calls = NOW.findall(page.read_text(encoding="utf-8"))
    assert calls
    for call in calls:
        body = ast.parse(call).body
        assert sum(not isinstance(x, (ast.Import, ast.ImportFrom)) for x in body) <= 3, call
    assert f"]({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


def test_pages_have_blocks_that_run() -> None:
    ran = {Path(page).name for page, _, _ in GROUPS}
    assert ran >= RUNNABLE, f"no block runs in {sorted(RUNNABLE - ran)}"


def test_the_page_on_backends_tells_every_hook() -> None:
    """In its table, with the parameters that it has."""
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    told = {
        name: {x.strip(" *") for x in re.sub(r"=\w+", "", parameters).split(",")} - {""}
        for name, parameters in re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", text, re.M)
    }
    hooks = {
        name: {*inspect.signature(hook).parameters} - {"self"}
        for name, hook in vars(Backend).items()
        if callable(hook) and not name.startswith("_") and name != "readable"
    }
    assert told == hooks


def test_readme_shows_every_framework() -> None:
    needs = {word for page, needs, _ in GROUPS if page == "README.md" for word in needs.split()}
    assert needs == {"torch", "jax", "tensorflow", "keras"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_block_escapes(page: Path) -> None:
    """A fence in another spelling would be shown and never run."""
    text = page.read_text(encoding="utf-8")
    assert not UNSEEN.search(text)
    fences = len(re.findall(r"^\s*```python\s*$", text, re.M))
    assert fences == len(BLOCK.findall(text)), f"{_name(page)}: an indented or unclosed block"
    assert text.count("<!-- needs:") == sum(bool(b["needs"]) for b in BLOCK.finditer(text)), (
        f"{_name(page)}: a needs comment that no block follows"
    )


def test_commands_install_from_a_checkout() -> None:
    """No index has the package; and the extras are those that there are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [
        (_name(page), match["what"], extra)
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for match in INSTALL.finditer(page.read_text(encoding="utf-8"))
        for extra in match["extras"].split(",")
    ]
    assert ("README.md", ".", "torch") in found
    assert [x for x in found if x[1] != "."] == []
    assert {extra for _, _, extra in found} <= set(project["optional-dependencies"])


def test_readme_says_how_long_all_checks_take() -> None:
    before, found, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("nox && nox\n")
    assert found
    sentence = before.splitlines()[-4]  # above the fence
    assert re.search(r"takes some \d+ minutes .* over a gigabyte", sentence)


def test_commands_name_sessions() -> None:
    declared = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^def (\w+)\(session", declared, re.M))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in SESSION.findall(page.read_text(encoding="utf-8"))}
    assert "demo" in named, "the README's main command is gone"
    assert named <= sessions, f"no such nox session: {sorted(named - sessions)}"
