"""The documentation runs: its Python blocks, the outputs they show, the commands they name.

A block is a ```` ```python ```` fence. An HTML comment on the line before it says what it
needs: `<!-- needs: torch -->`. The blocks of a page with equal needs run in order, in one
namespace; one process runs the pages with equal needs, as frameworks take seconds to import.
Output is shown as a comment at the end of the line that prints it, ``print(x)  # 1.5``, and has
to agree.
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
from typing import Any

import pytest

from hungarian_core import Backend
from hungarian_core.losses.base import Loss
from hungarian_core.terms import Term
from hungarian_core.testing.test_fields import FIELDS

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

# Threads that share a processor with other tests wait for each other longer than they work.
SURROUNDINGS = {"PYTHONIOENCODING": "utf-8", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}


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


NEEDS = sorted({needs for _, needs, _ in GROUPS})


def _run(programs: dict[str, str], folder: Path) -> list[str]:
    """Run programs in one process, and return what is wrong, each with the page it is of."""
    folders = [folder / str(i) for i in range(len(programs))]
    for place, program in zip(folders, programs.values(), strict=True):
        place.mkdir()
        (place / "blocks.py").write_text(program, encoding="utf-8")
    # A Keras block chooses its backend itself, whatever the machine's default is.
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_blocks.py"), *folders],
        cwd=folder,
        env=environment | SURROUNDINGS,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    wrong = []
    for place, (page, program) in zip(folders, programs.items(), strict=True):
        shown = [line["output"] for line in SHOWN.finditer(program)]
        if None in shown:
            wrong.append(f"{page}: a print without the output it should show")
        if not (place / "done").exists():
            told = place / "stderr"
            reason = told.read_text("utf-8") if told.exists() else "not reached"
            wrong.append(f"{page} fails:\n{reason}")
        elif (printed := (place / "stdout").read_text("utf-8").splitlines()) != shown:
            wrong.append(f"{page} shows {shown} and prints {printed}")
    if ran.returncode and not wrong:
        wrong.append(f"after {', '.join(programs)}:\n{ran.stderr}")
    return wrong


@pytest.mark.parametrize("needs", NEEDS, ids=[needs or "numpy" for needs in NEEDS])
def test_blocks_run_and_print_what_they_show(needs: str, tmp_path: Path) -> None:
    missing = [name for name in needs.split() if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    programs = {page: program for page, wanted, program in GROUPS if wanted == needs}
    wrong = _run(programs, tmp_path)
    assert not wrong, "\n\n".join(wrong)


def test_a_block_that_fails_is_named(tmp_path: Path) -> None:
    """And those after it run, in a namespace and a folder of their own."""
    right = "import os\nx = os.listdir()\nopen('here', 'w').close()\nprint('here' in x)  # False\n"
    programs = {
        "right.md": right,
        "wrong.md": "\n\nprint(1 / 0)  # 0\n",
        "other.md": "print(x)  # False\n",
        "leaves.md": "import sys\nsys.exit()\n",
        "again.md": right,
        "differs.md": "print(2)  # 3\n",
        "bare.md": "print(4)\n",
        "dies.md": "import os\nos.abort()\n",
        "last.md": "",
    }
    wrong = {text.partition(" ")[0].strip(":"): text for text in _run(programs, tmp_path)}
    assert set(wrong) == {*programs} - {"right.md", "again.md"}
    assert "line 3" in wrong["wrong.md"]
    assert "ZeroDivisionError" in wrong["wrong.md"]
    assert "NameError: name 'x'" in wrong["other.md"]
    assert wrong["last.md"].endswith("not reached")


def test_keras_blocks_choose_the_backend_that_they_need() -> None:
    """The first page of a process chooses for all of a process; each says it nevertheless."""
    pages = [(needs.split(), program) for _, needs, program in GROUPS if "keras" in needs]
    assert pages
    for (_, backend), program in pages:
        line = f'os.environ["KERAS_BACKEND"] = "{backend}"'
        assert -1 < program.find(line) < program.find("import keras")


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


def _kinds(x: Any) -> set[str]:
    """Return the names of what a criterion is and is made of, of the classes above them as well."""
    found = {kind.__name__ for kind in type(x).__mro__}
    for value in getattr(x, "__dict__", {}).values():
        for part in value if isinstance(value, tuple) else (value,):
            found |= _kinds(part) if isinstance(part, (Term, Loss)) else set()
    return found


def test_every_field_has_a_check() -> None:
    """The suite has each row of the table of fields, with the terms and criteria in it."""
    text = (DOCS / "sets.md").read_text(encoding="utf-8")
    table = text.partition("\n## By field\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"]
    told = {
        row: {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", f"{terms} {criterion}")}
        for row, terms, criterion, _ in lines[2:]
    }
    assert [*told] == [*dict.fromkeys(field.row for field in FIELDS)]
    assert sum(map(len, told.values())) > 20
    for row, names in told.items():
        fields = [field for field in FIELDS if field.row == row]
        criteria = {field.criterion for field in fields} - {""}
        made = set().union(*(_kinds(field.make("numpy")) for field in fields))
        assert names <= made | criteria, row
        assert criteria <= names, row


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
