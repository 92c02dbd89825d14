"""The layout of PASCAL VOC: a file of XML per image.

VOC counts pixels from 1 and includes the last one: an object on the whole of an image of 500
pixels goes from 1 to 500. So the left edge of the box is `xmin - 1` and its right edge `xmax`.
Many tools write `xmin` as it is here, from 0: then a box is a pixel too wide, and what sticks out
is clipped. Where `xmin` is `xmax`, a box is one pixel wide.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from hungarian_core._options import meant
from hungarian_data.dataset import DataError
from hungarian_data.gathering import Annotated, Gathering, flag, number
from hungarian_data.images import SUFFIXES
from hungarian_data.places import annotates, with_suffix

NAME = "PASCAL VOC"
SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Elements(ET.TreeBuilder):
    """Builds a tree, but not of XML that brings definitions, by which few bytes become many."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(f"the XML has a DOCTYPE, {name!r}, which is refused as unsafe; remove it")


def scan(
    root: Path, folders: Sequence[Path], split: str | None, gathering: Gathering
) -> tuple[str, ...]:
    """Gather the examples of a folder and return its classes.

    Args:
        root: The folder with images and splits.
        folders: The folders with files of XML: one, or one for each split.
        split: Name of a file in `ImageSets/Main` or of a folder, or None for all images.
        gathering: What takes what is found.
    """
    files = [path for folder in folders for path in with_suffix(folder, ".xml")]
    chosen = {*(files if split is None else _chosen(root, folders, split, gathering))}
    trees: dict[Path, ET.Element] = {}
    names: set[str] = set()
    for path in files:
        # All files are read whatever the split, so that a label means the same in each.
        try:
            tree = _parse(path)
        except DataError as error:
            if path in chosen:
                gathering.problem(path, "", str(error))
            continue
        names.update(_name(x) for x in tree.iterfind("object"))
        if path in chosen:
            trees[path] = tree
    labels = {name: label for label, name in enumerate(sorted(names - {""}))}
    images = {folder: _images(root, folder) for folder in folders}
    for path, tree in trees.items():
        _add(path, tree, images[path.parent], labels, gathering)
    if split is None:
        annotated = {(path.parent, path.stem) for path in files}
        for folder, found in images.items():
            for image in (x for same in found.values() for x in same):
                if image not in gathering.sources and (folder, image.stem) not in annotated:
                    gathering.note(image, "", "the image has no annotation")
        _note_deeper(root, folders, gathering)
    return tuple(labels)


def check_splits(root: Path, folders: Sequence[Path], gathering: Gathering) -> dict[str, int]:
    """Look through the files of splits, and return how many images each names."""
    found = {
        name: _chosen(root, folders, name, gathering) for name in sorted(_splits(root, folders))
    }
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = sorted({*found.get(one, ())} & {*found.get(other, ())})
        if both:
            what = f"{len(both)} images are in {one!r} too, {both[0].stem!r} is the first"
            gathering.note(_splits(root, folders)[other], "", what)
    return {name: len(chosen) for name, chosen in found.items()}


def _splits(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files that name the images of splits, or the folders of splits."""
    files = {path.stem: path for path in (root / "ImageSets" / "Main").glob("*.txt")}
    return files or {x.name: x for x in folders if x != root and not annotates(x)}


def _chosen(root: Path, folders: Sequence[Path], split: str, gathering: Gathering) -> list[Path]:
    """Return the files of a split."""
    there = _splits(root, folders)
    if split not in there:
        names = ", ".join(repr(x) for x in sorted(there)) or "none: leave `split` out"
        raise DataError(f"split is {split!r}; {root} has {names}{meant(split, there)}")
    if there[split] in folders:
        return with_suffix(there[split], ".xml")
    known = {path.stem: path for folder in folders for path in with_suffix(folder, ".xml")}
    found: dict[Path, None] = {}
    try:
        text = there[split].read_text("utf-8-sig", errors="replace")
    except OSError as error:
        gathering.problem(there[split], "", f"cannot be read: {error.strerror}")
        return []
    for k, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        # Splits of a class say for each image whether it is there: 1, -1, or 0 for difficult.
        name, _, is_there = entry.rpartition(" ")
        if entry not in known and is_there in ("-1", "0", "1"):
            entry = name.strip()
        if entry and entry not in known:
            what = f"{entry!r} has no annotation {entry}.xml"
            gathering.problem(there[split], f"line {k}", what)
        elif entry and known[entry] in found:
            gathering.note(there[split], f"line {k}", f"{entry!r} is listed twice")
        elif entry:
            found[known[entry]] = None
    return list(found)


def _note_deeper(root: Path, folders: Sequence[Path], gathering: Gathering) -> None:
    """Note folders in those of annotations and images, as they are not read."""
    for folder in folders:
        for place, suffixes in ((folder, (".xml",)), (_beside(root, folder), SUFFIXES)):
            for inside in sorted(x for x in place.iterdir() if x.is_dir() and place != root):
                count = sum(x.suffix.lower() in suffixes for x in inside.rglob("*"))
                if count:
                    what = f"{count} files in it are left out; expected right in {place.name}"
                    gathering.note(inside, "", what)


def _beside(root: Path, annotations: Path) -> Path:
    """Return where the images are that go with a folder of XML."""
    if not annotates(annotations):
        return annotations
    named = (root / name for name in ("JPEGImages", "images", "Images"))
    return next((x for x in named if x.is_dir()), root)


def _images(root: Path, annotations: Path) -> dict[str, list[Path]]:
    """Return the images that go with a folder of XML by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in with_suffix(_beside(root, annotations), *SUFFIXES):
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
    images: Mapping[str, list[Path]],
    labels: Mapping[str, int],
    gathering: Gathering,
) -> None:
    """Add the example of a file."""
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
        gathering.annotated[name] += 1
        difficult = flag(element.findtext("difficult"))
        if difficult is None:
            gathering.problem(
                path, entry, f"difficult is {element.findtext('difficult')!r}; expected 0 or 1"
            )
            continue
        if x0 == x1 or y0 == y1:
            gathering.note(path, entry, f"{shown}: one pixel wide or high, as a slip may leave it")
        objects.append(
            Annotated(
                entry,
                labels[name],
                name,
                shown,
                (x1 - x0, y1 - y0),
                (x0 - 1, y0 - 1, x1, y1),
                difficult,
            )
        )
    # Annotations are written where images lie elsewhere: only the last part of a path counts.
    named = tree.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]
    same = images.get(path.stem) or images.get(Path(named).stem, [])
    if not same:
        gathering.problem(path, "filename", f"there is no image {named or path.stem!r}")
        return
    exact = [x for x in same if x.name == named]
    if len(exact or same) > 1:
        names = " or ".join(x.name for x in same)
        gathering.problem(path, "filename", f"is {named or 'missing'}; expected {names}")
        return
    (image,) = exact or same
    if named and Path(named).stem != image.stem:
        gathering.note(path, "filename", f"is {named!r}; {image.name} is taken, as it is called")
    size = [tree.findtext(f"size/{x}", "").strip() for x in ("width", "height")]
    gathering.add(path, "size", image, size, objects)
