"""The layout of PASCAL VOC: a file of XML per image.

VOC counts pixels from 1 and includes the last one: an object on the whole of an image of 500
pixels goes from 1 to 500. So the left edge of the box is `xmin - 1` and its right edge `xmax`.
Many tools write `xmin` as it is here, from 0: then a box is a pixel too wide, and what sticks out
is clipped.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from hungarian_core._options import meant
from hungarian_data.dataset import DataError
from hungarian_data.gathering import Annotated, Gathering, number
from hungarian_data.images import SUFFIXES

SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Elements(ET.TreeBuilder):
    """Builds a tree, but not of XML that brings definitions, by which few bytes become many."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(f"the XML has a DOCTYPE, {name!r}, which is refused as unsafe; remove it")


def scan(root: Path, annotations: Path, split: str | None, gathering: Gathering) -> tuple[str, ...]:
    """Gather the examples of a folder and return its classes.

    Args:
        root: The folder with images and splits.
        annotations: The folder with files of XML.
        split: Name of a file in `ImageSets/Main`, or None for all images.
        gathering: What takes what is found.
    """
    files = {path.stem: path for path in sorted(annotations.glob("*.xml"))}
    chosen = set(files if split is None else _chosen(root, split, files, gathering))
    images = _images(root)
    trees: dict[Path, ET.Element] = {}
    names: set[str] = set()
    for stem, path in files.items():
        # All files are read whatever the split, so that a label means the same in each.
        try:
            tree = _parse(path)
        except DataError as error:
            if stem in chosen:
                gathering.problem(path, "", str(error))
            continue
        names.update(_name(x) for x in tree.iterfind("object"))
        if stem in chosen:
            trees[path] = tree
    classes = tuple(sorted(names - {""}))
    for path, tree in trees.items():
        _add(path, tree, images, classes, gathering)
    if split is None:
        for image in (x for same in images.values() for x in same):
            if image not in gathering.sources and image.stem not in files:
                gathering.note(image, "", "the image has no annotation")
    return classes


def splits(root: Path) -> dict[str, Path]:
    """Return the files that name the images of a split."""
    return {path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))}


def listed(path: Path, known: Mapping[str, Path], gathering: Gathering) -> list[str]:
    """Return the entries of a split that are known."""
    found: dict[str, None] = {}
    for k, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        entry = line.strip()
        # Splits of a class say for each image whether it is there: 1, -1, or 0 for difficult.
        name, _, there = entry.rpartition(" ")
        if entry not in known and there in ("-1", "0", "1"):
            entry = name.strip()
        if entry in found:
            gathering.note(path, f"line {k}", f"{entry!r} is listed twice")
        elif entry in known:
            found[entry] = None
        elif entry:
            gathering.problem(path, f"line {k}", f"{entry!r} has no annotation {entry}.xml")
    return list(found)


def _chosen(root: Path, split: str, files: Mapping[str, Path], gathering: Gathering) -> list[str]:
    there = splits(root)
    if split not in there:
        names = ", ".join(repr(x) for x in there) or "none: leave `split` out"
        raise DataError(
            f"split is {split!r}; {root / 'ImageSets' / 'Main'} has {names}{meant(split, there)}"
        )
    return listed(there[split], files, gathering)


def _images(root: Path) -> dict[str, list[Path]]:
    """Return the images by their names without suffix."""
    found: dict[str, list[Path]] = {}
    folders = (root / name for name in ("JPEGImages", "images", "Images"))
    folder = next((x for x in folders if x.is_dir()), root)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def _parse(path: Path) -> ET.Element:
    try:
        tree = ET.parse(path, ET.XMLParser(target=_Elements())).getroot()
    except (ET.ParseError, OSError, ValueError, LookupError) as error:  # and unknown encodings
        if isinstance(error, DataError):
            raise
        raise DataError(f"the XML cannot be read: {error}") from error
    if tree.tag != "annotation":
        raise DataError(f"the XML is <{tree.tag}>; expected <annotation>, as of PASCAL VOC")
    return tree


def _name(element: ET.Element) -> str:
    return element.findtext("name", "").strip()


def _add(
    path: Path,
    tree: ET.Element,
    images: dict[str, list[Path]],
    classes: tuple[str, ...],
    gathering: Gathering,
) -> None:
    """Add the example of a file."""
    # Annotations are written where images lie elsewhere: only the last part of a path counts.
    named = tree.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]
    same = images.get(path.stem) or images.get(Path(named).stem, [])
    if not same:
        gathering.problem(path, "filename", f"there is no image {named or path.stem!r}")
        return
    image = next((x for x in same if x.name == named), same[0])
    if named and Path(named).stem != image.stem:
        gathering.note(path, "filename", f"is {named!r}; {image.name} is taken, as it is called")
    objects = []
    for k, element in enumerate(tree.iterfind("object"), 1):
        name = _name(element)
        entry = f"object {k}{name and ' '}{name}"
        texts = [(element.findtext(f"bndbox/{x}") or "").strip() for x in SIDES]
        shown = ", ".join(f"{x} {text or 'missing'}" for x, text in zip(SIDES, texts, strict=True))
        x0, y0, x1, y1 = (number(text) for text in texts)
        if not name:
            gathering.problem(path, entry, "has no name; expected that of a class in <name>")
            continue
        objects.append(
            Annotated(
                entry,
                classes.index(name),
                name,
                shown,
                (x1 - x0, y1 - y0),
                (x0 - 1, y0 - 1, x1, y1),
                element.findtext("difficult", "0").strip() == "1",
            )
        )
    size = [tree.findtext(f"size/{x}", "").strip() for x in ("width", "height")]
    gathering.add(path, "size", image, size, objects)
