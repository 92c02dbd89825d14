"""The command `hungarian-core data`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hungarian_core.cli import print_table
from hungarian_data.dataset import DataError
from hungarian_data.gathering import MARGIN
from hungarian_data.report import Report, check

# How much of what may be long is printed.
SIZES, NOTES = 5, 20


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    Returns:
        0 if all is well, 1 if there are problems, 2 for a folder that is no data set.
    """
    parser = argparse.ArgumentParser(
        prog="hungarian-core data", description="Look through folders of annotated images."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checking = commands.add_parser(
        "check",
        help="tell what a folder holds, and everything that is wrong in it",
        description="Tell what a folder in the layout of PASCAL VOC or COCO holds, and everything "
        "that is wrong in it. Exit code: 0 without problems, 1 with problems, 2 for a folder that "
        "is no data set.",
    )
    checking.add_argument("folder", type=Path, help="the folder, or a .json of COCO")
    checking.add_argument("--notes", action="store_true", help="show all notes")
    given = parser.parse_args(argv)
    try:
        report = check(given.folder)
    except (DataError, ImportError, OSError) as error:
        print(f"data check: {error}", file=sys.stderr)
        return 2
    show(given.folder, report, all_notes=given.notes)
    return int(bool(report.problems))


def show(folder: Path, report: Report, *, all_notes: bool = False) -> None:
    """Print a report, by Rich where that is installed; problems a line each, as they are."""
    annotated, objects = sum(report.annotated.values()), sum(report.objects.values())
    print(
        f"{folder}: {report.layout}, {_count(report.images, 'image')}, "
        f"{_count(annotated, 'annotated object')}, {objects} of them usable"
    )
    print_table(
        ("class", "annotated", "usable"),
        [(name, str(n), str(report.objects[name])) for name, n in report.annotated.items()],
        justify="right",
    )
    spreads = (
        ("objects per image", report.objects_per_image),
        ("width of a box, pixels", report.box_widths),
        ("height of a box, pixels", report.box_heights),
    )
    print_table(
        ("", "least", "median", "greatest"),
        [(name, *(f"{x:.6g}" for x in spread)) for name, spread in spreads],
        justify="right",
    )
    sizes = [f"{w} x {h} ({n})" for (w, h), n in report.image_sizes.items()]
    others = f" and {len(sizes) - SIZES} others" if len(sizes) > SIZES else ""
    print(f"sizes of images: {', '.join(sizes[:SIZES]) or 'none'}{others}")
    if report.splits:
        print(f"splits: {', '.join(f'{name} ({n})' for name, n in report.splits.items())}")
    print(f"difficult or crowd: {report.crowd}")
    print(f"clipped, as they leave their image by at most {MARGIN:g} pixels: {report.clipped}")
    kept = report.notes if all_notes else report.notes[:NOTES]
    for title, entries in (("note", kept), ("problem", report.problems)):
        for x in entries:
            print(f"{title}: {x}")
    if len(kept) < len(report.notes):
        print(f"{len(report.notes) - len(kept)} more notes: --notes shows all")
    print(f"{_count(len(report.problems), 'problem')}, {_count(len(report.notes), 'note')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
