"""Show a run's figures: tables with rich and in Markdown, and a picture.

    python benchmarks/report.py [FOLDER]

makes them again from the `results.json` in a folder, `benchmarks/results` by default. The
documentation includes the Markdown, so that no figure is typed by hand.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

from timing import geometric_mean

JSON, MARKDOWN, PICTURE = "results.json", "results.md", "results.png"
LEAST = 1.3  # over the faster peer, on every instance and at either thread count
MEANS = {"1": 5.0, "2": 8.0}  # over SciPy's loop, geometric means, by threads
ROOM = 0.25  # of the costs: extra memory that is no copy
FRAMEWORKS = ("numpy", "torch", "jax", "tensorflow")
EAGER = "torch"  # what the targets of detection losses are about
LETTERS = "L layers, B images, Q queries, C classes, at most T objects in an image."
Figures = dict[str, Any]


class Table(NamedTuple):
    """A title, headings, rows of cells, and what is to be said below them."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    note: str


def digits(value: float) -> str:
    """Return three significant digits, and no exponent."""
    places = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{places}f}"


def verdict(*reached: bool) -> str:
    """Return what became of a target."""
    return "met" if all(reached) else "missed"


def pair(one: float, two: float) -> str:
    """Return figures of 1 and of 2 threads in one cell."""
    return f"{digits(one)} / {digits(two)}"


def assign_table(rows: list[Figures]) -> Table:
    """Return `assign` on NumPy arrays against SciPy and lapx."""
    lines = []
    for row in rows:
        one, two = row["1"], row["2"]
        lines.append(
            [
                row["name"],
                digits(row["ms"]["scipy"]),
                pair(one["lapx_ms"], two["lapx_ms"]),
                pair(one["ms"], two["ms"]),
                pair(one["over_scipy"], two["over_scipy"]),
                pair(one["over_peer"], two["over_peer"]),
                verdict(one["over_peer"] >= LEAST, two["over_peer"] >= LEAST),
            ]
        )
    over_scipy, over_peer = (means(rows, key) for key in ("over_scipy", "over_peer"))
    reached = verdict(*(over_scipy[threads] >= least for threads, least in MEANS.items()))
    means_row = ["geometric mean", "", "", "", pair(*over_scipy.values())]
    lines.append([*means_row, pair(*over_peer.values()), reached])
    runs = [row[threads] for row in rows for threads in MEANS]
    default = [run["auto_over_native"] for run in runs]
    entries = sorted({run["lapx_entry"] for run in runs})
    return Table(
        "assign on NumPy arrays, ms at 1 / 2 threads",
        ["costs", "SciPy", "lapx", "ours", "over SciPy", "over faster peer", "target"],
        lines,
        f"Targets: {LEAST} times the faster of SciPy and lapx at either number of threads, and "
        f"{MEANS['1']:g} times SciPy at 1 and {MEANS['2']:g} times at 2 threads in the geometric "
        f"mean. The default solver took between {min(default):.2f} and {max(default):.2f} times "
        f'what solver="native" took. The fastest of lapx was {" or ".join(entries)}.',
    )


def means(rows: list[Figures], key: str) -> dict[str, float]:
    """Return geometric means over all instances, by thread count."""
    return {threads: geometric_mean(row[threads][key] for row in rows) for threads in MEANS}


def framework_table(figures: Figures) -> Table:
    """Return the figures inside the frameworks."""
    lines = []
    for row in (row for name in FRAMEWORKS for row in figures.get(name, [])):
        factor, least = row["over_peer"], row["target"]
        if least < 1:  # a call may take so many times as long as its peer's
            reached, target = f"takes {digits(1 / factor)}", f"at most {1 / least:.0f}"
        else:
            reached, target = f"{digits(factor)} faster", f"at least {least:.0f}"
        name = row["name"]
        cells = [name, row["peer"], digits(row["peer_ms"]), digits(row["ms"]), reached]
        lines.append([*cells, f"{target}: {verdict(factor >= least)}"])
    headings = ["call", "peer", "peer, ms", "ours, ms", "times", "target"]
    note = ""
    for row in figures.get("tensorflow", []):
        note = (
            f"On these objects the loss is {row['loss']:.4f}, the mean distance of matched pairs. "
            f"The peer divides by the number of objects once more; times that, its loss is "
            f"{row['peer_loss_times_n']:.4f}, since it leaves some objects unmatched."
        )
    return Table("Inside the frameworks", headings, lines, note)


def large_table(large: Figures) -> Table:
    """Return one large problem by size, and the memory of some layouts."""
    lines = []
    solver, scipy = (name for name in large["growth"])
    for ours, peer in zip(large["growth"][solver], large["growth"][scipy], strict=True):
        theirs = [digits(peer["seconds"]), mebibytes(peer["extra"])]
        lines.append([*layout(ours), *theirs, memory_target(ours)])
    lines += [[*layout(row), "", "", memory_target(row)] for row in large["layouts"]]
    powers = [f"size^{power:.2f} ({name})" for name, power in large["exponents"].items()]
    growth = ""
    if powers:
        growth = f"By least squares over the sizes, the time grows as {' and '.join(powers)}. "
    headings = ["costs", "MiB", "ours, s", "extra MiB", "SciPy, s", "extra MiB", "target"]
    return Table(
        "One large problem, uniform costs, and memory beyond the costs",
        headings,
        lines,
        f"{growth}Targets: of row-major costs with no more rows than columns no copy, else one "
        f"problem's for each thread; {ROOM:g} of the costs and 1 MiB more count as none.",
    )


def layout(row: Figures) -> list[str]:
    """Return the cells of ours."""
    size, n, m = row["shape"]
    name = f"{size} x ({n} x {m}) {row['dtype'].replace('float', 'f')}"
    name += ", column-major" if row["order"] == "F" else ""
    memory = mebibytes(row["cost_bytes"]), mebibytes(row["extra"])
    return [name, memory[0], digits(row["seconds"]), memory[1]]


def memory_target(row: Figures) -> str:
    """Return what may be copied: one problem for each thread if transposed, else nothing.

    There must be room for the answer and for what is kept of rows and columns. A copy, even of
    float64 as float32, takes half of the costs at least.
    """
    size, n, m = row["shape"]
    copies = 0 if row["order"] == "C" and n <= m else min(size, row["threads"])
    allowed = (copies / size + ROOM) * row["cost_bytes"] + 2**20
    target = f"{copies} copies" if copies != 1 else "1 copy"
    return f"{target if copies else 'no copy'}: {verdict(row['extra'] <= allowed)}"


def mebibytes(count: int) -> str:
    """Return memory in MiB; below a half, Linux's own counting is too coarse to tell."""
    return f"{count / 2**20:.0f}" if count >= 2**19 else "< 0.5"


def core_table(rows: list[Figures]) -> Table:
    """Return the core's algorithm against optax and SciPy."""
    lines = []
    for row in rows:
        ms = row["ms"]
        lines.append(
            [
                row["name"],
                *(digits(ms[name]) for name in ("jax_core", "jax_optax")),
                digits(ms["jax_optax"] / ms["jax_core"]),
                *(digits(ms[name]) for name in ("numpy_core", "scipy_loop")),
                digits(ms["numpy_core"] / ms["scipy_loop"]),
                digits(row["memory_over_costs"]),
            ]
        )
    headings = ["costs", "JAX core", "optax", "faster", "NumPy core", "SciPy", "slower", "memory"]
    note = "Memory is the peak that the core takes in NumPy, over the size of the costs."
    return Table('The core\'s algorithm, solver="core", ms', headings, lines, note)


def detection_table(rows: list[Figures]) -> Table:
    """Return detection losses against those of transformers."""
    lines = []
    for row in rows:
        (peer, theirs), *ours = row["ms"].items()
        for name, ms in ours:
            least = row["target"]["faster"] if name == EAGER else None
            target = f"at least {least:g}: {verdict(theirs / ms >= least)}" if least else ""
            lines.append([row["name"], name, digits(theirs), digits(ms), digits(theirs / ms)])
            lines[-1].append(target)
    off = max(value for row in rows for value in row["off"].values())
    return Table(
        "Detection losses, forward and backward on 2 threads",
        ["loss", "ours in", f"{peer}, ms", "ours, ms", "faster", "target"],
        lines,
        f"{LETTERS} Eager PyTorch gets the list of dictionaries that {peer} gets, and all others "
        f"the same objects padded. All totals and gradients are within {off:.1g} of the published "
        "ones.",
    )


def phases_table(rows: list[Figures]) -> Table:
    """Return where a detection loss spends its time, and its memory."""
    lines = []
    for row in rows:
        (peer, theirs), (_, ours) = row["memory"].items()
        shares = [f"{100 * share:.0f} %" for share in row["shares"].values()]
        most, ratio = row["target"]["memory"], ours / theirs
        target = f"{most:g}: {verdict(ratio <= most)}" if most else ""
        memory = [mebibytes(theirs), mebibytes(ours), digits(ratio)]
        lines.append([row["name"], *shares, *memory, target])
    return Table(
        "Detection losses in eager PyTorch: shares of the time, and memory at the peak",
        ["loss", *rows[0]["shares"], "peer, MiB", "ours, MiB", "ratio", "target"],
        lines,
        f"Padding the list counts as cost. Memory is what one call, forward and backward, holds at "
        f"most over what its process held before; the peer is {peer}, and the target is the ratio "
        "at most.",
    )


def tables(figures: Figures) -> list[Table]:
    """Return the tables of the parts that ran."""
    found = [assign_table(figures["assign"])] if "assign" in figures else []
    if any(name in figures for name in FRAMEWORKS):
        found.append(framework_table(figures))
    if "detection" in figures:
        found += [detection_table(figures["detection"]), phases_table(figures["detection"])]
    found += [large_table(figures["large"])] if "large" in figures else []
    return [*found, core_table(figures["core"])] if "core" in figures else found


def machine_line(figures: Figures) -> str:
    """Return what the figures depend on, in one line."""
    machine = figures["machine"]
    native = machine["native"] or {"variant": "none", "threads": 0}
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    return (
        f"`{figures['command']}` on {machine['date']} at commit {machine['commit']}: "
        f"{machine['cpus']} CPUs of {machine['processor']}, {machine['system']}, native solver "
        f"for {native['variant']} with up to {native['threads']} threads; "
        f"Python {machine['python']}, {versions}."
    )


def markdown(figures: Figures) -> str:
    """Return the tables in Markdown."""
    parts = ["<!-- made by benchmarks/report.py -->", machine_line(figures)]
    for title, headings, rows, note in tables(figures):
        lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
        parts.append("\n".join([f"**{title}**", "", *(f"| {' | '.join(x)} |" for x in lines)]))
        parts += [note] if note else []
    if "import_time" in figures:
        spent = figures["import_time"]
        parts.append(
            f"`import hungarian_core` takes {spent['ms']:.1f} ms at its fastest, "
            f"{spent['median_ms']:.1f} ms in the median."
        )
    return "\n\n".join(parts) + "\n"


def show(figures: Figures) -> None:
    """Print the tables."""
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console(width=120 if not sys.stdout.isatty() else None)
    console.print(machine_line(figures), highlight=False)
    for title, headings, rows, note in tables(figures):
        drawn = Drawn(title=title, title_justify="left", caption=note, caption_justify="left")
        for number, heading in enumerate(headings):
            drawn.add_column(heading, justify="right" if number else "left", no_wrap=number > 0)
        for row in rows:
            style = "red" if row[-1].endswith("missed") else None
            drawn.add_row(*row, style=style)
        console.print(drawn)


def write(folder: Path) -> None:
    """Print the tables of a folder's figures, and write the Markdown and the picture."""
    figures = json.loads((folder / JSON).read_text())
    show(figures)
    (folder / MARKDOWN).write_text(markdown(figures))
    if "assign" in figures:
        from picture import draw

        rows = figures["assign"]
        draw(rows, LEAST, means(rows, "over_scipy"), folder / PICTURE)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "results")
