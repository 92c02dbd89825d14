"""The layout of COCO: one file of JSON for many images.

A box is its left upper corner, width and height, in pixels from the corner of the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from hungarian_data.dataset import DataError
from hungarian_data.gathering import Annotated, Gathering, flag, number
from hungarian_data.images import SUFFIXES
from hungarian_data.places import SAME, Places, annotates

# What messages call an entry of a list, and the entry.
Record = tuple[str, dict[str, Any]]

NAME = "COCO"
SPLITS = ("train", "val", "test")
GENERIC = ("instances", "annotations", "ann", "coco")  # words that name no split
LISTS = ("images", "annotations", "categories")


def scan(files: Sequence[Path], split: str | None, gathering: Gathering) -> tuple[str, ...]:
    """Gather the examples of files and return the classes.

    Args:
        files: The files of JSON.
        split: A word in the name of one of them or the name of its folder, or None for all.
        gathering: What takes what is found.
    """
    instances = _instances(files)
    chosen = instances if split is None else _chosen(instances, split)
    classes: tuple[str, ...] | None = None
    for path in chosen:
        content = _load(path, gathering)
        if content is None:
            continue
        if len(chosen) > 1 and not any(name in content for name in LISTS[1:]):
            gathering.note(path, "", "the JSON is left out, as it annotates no boxes")
            continue
        before = len(gathering.examples)
        found = _scan(path, content, gathering)
        if classes is None or classes == found:
            classes = found
        else:
            del gathering.examples[before:]
            names = ", ".join(x.name for x in chosen)
            what = f"are not those of the files before it; take one of {names} at a time"
            gathering.problem(path, "categories", what)
    if split is None and gathering.folder.is_dir():
        _note_others(gathering)
    return classes or ()


def split_name(files: Sequence[Path], path: Path) -> str:
    """Return a name of the split of a file, of those that `scan` takes."""
    known = [x for x in re.findall(r"[^\W\d_]+", path.stem) if SAME.get(x.casefold(), x) in SPLITS]
    others = [x for x in re.findall(r"[^\W_]+", path.stem) if x.casefold() not in GENERIC]
    folder = [] if annotates(path.parent) else [path.parent.name]
    names = (x for x in (*known, *others, *folder) if _named(_instances(files), x) == [path])
    return next(names, path.stem)


def _instances(files: Sequence[Path]) -> Sequence[Path]:
    """Leave out COCO's files of captions and of keypoints for the same images."""
    return [x for x in files if x.stem.startswith("instances")] or files


def _named(files: Sequence[Path], split: str) -> list[Path]:
    """Return the files of a split: their names, or those of their folders, have it as a word.

    A name may have it with digits behind, as instances_train2017 has train, unless another has
    it as it is.
    """
    word = re.escape(split)
    for pattern in (rf"(?<![^\W_]){word}(?![^\W_])", rf"(?<![^\W\d_]){word}(?![^\W\d_])"):
        if found := [x for x in files if re.search(pattern, x.stem, re.I)]:
            return found
    return [x for x in files if x.parent.name == split]


def _chosen(files: Sequence[Path], split: str) -> list[Path]:
    """Return the file of a split."""
    found = _named(files, split)
    if len(found) != 1:
        names = ", ".join(f"{x.parent.name}/{x.name}" for x in found or files)
        raise DataError(
            f"split is {split!r}, which names {len(found)} files; expected a word in the name of "
            f"one, or its folder: {names}"
        )
    return found


def _load(path: Path, gathering: Gathering) -> dict[str, Any] | None:
    """Return what a file holds, if it is a mapping."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        gathering.problem(path, "", f"the JSON cannot be read: {error}")
        return None
    if not isinstance(content, dict):
        gathering.problem(
            path, "", f"the JSON is {_kind(content)}; expected an object with {', '.join(LISTS)}"
        )
        return None
    return content


def _scan(path: Path, content: dict[str, Any], gathering: Gathering) -> tuple[str, ...]:
    """Gather the examples of a file and return its classes."""
    records: dict[str, list[Record]] = {}
    for name in LISTS:
        listed = content.get(name)
        if not isinstance(listed, list):
            gathering.problem(path, name, f"is {_kind(listed)}; expected a list")
            listed = []
        records[name] = []
        for k, record in enumerate(listed):
            entry = f"{name}[{k}]"
            if isinstance(record, dict):
                known = f", id {record['id']!r}" if "id" in record else ""
                records[name].append((entry + known, record))
            else:
                gathering.problem(path, entry, f"is {_kind(record)}; expected an object")
    categories = _by_id(path, records["categories"], gathering)
    named = {k: _category(path, *categories[k], gathering) for k in sorted(categories)}
    seen: dict[str, str] = {}
    for k, (entry, _) in categories.items():
        if seen.setdefault(named[k], entry) != entry:
            gathering.note(path, entry, f"{seen[named[k]]} is called {named[k]!r} too")
    labels = {k: label for label, k in enumerate(named)}
    images = _by_id(path, records["images"], gathering, text=True)
    annotations = _by_id(path, records["annotations"], gathering, text=True, needed=False)
    objects: dict[int | str, list[Annotated]] = {k: [] for k in images}
    for entry, record in annotations.values():
        image, category = record.get("image_id"), record.get("category_id")
        crowd = flag(record.get("iscrowd"))
        if not _is_id(image, text=True) or image not in images:
            gathering.problem(path, entry, f"image_id is {image!r}, which no image has")
        elif not _is_id(category) or category not in labels:
            gathering.problem(path, entry, f"category_id is {category!r}, which no category has")
        else:
            name = named[category]
            gathering.annotated[name] += 1
            if crowd is None:
                what = f"iscrowd is {record.get('iscrowd')!r}; expected 0 or 1"
                gathering.problem(path, entry, what)
            else:
                objects[image].append(_annotated(entry, record, labels[category], name, crowd))
    places = Places(path, gathering)
    for k, (entry, record) in images.items():
        found = places.find(entry, record.get("file_name"))
        if found is not None:
            size = record.get("width"), record.get("height")
            gathering.add(path, entry, found, size, objects[k])
    places.note_others()
    return tuple(named.values())


def _by_id(
    path: Path,
    records: list[Record],
    gathering: Gathering,
    *,
    text: bool = False,
    needed: bool = True,
) -> dict[Any, Record]:
    """Return the first record of each id, and all without one unless it is needed."""
    found: dict[Any, Record] = {}
    for entry, record in records:
        key = record.get("id")
        if key is None and not needed:
            key = entry  # no other record has it
        elif not _is_id(key, text=text):
            kind = "an integer or a text" if text else "an integer"
            gathering.problem(path, entry, f"the id is {key!r}; expected {kind}")
            continue
        if key in found:
            gathering.problem(path, entry, f"{found[key][0]} has this id too")
        else:
            found[key] = entry, record
    return found


def _is_id(value: object, *, text: bool = False) -> TypeGuard[int | str]:
    """Tell whether a value can be an id, of images and annotations also a text."""
    kinds = (int, str) if text else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _category(path: Path, entry: str, record: dict[str, Any], gathering: Gathering) -> str:
    name = record.get("name")
    if not isinstance(name, str):
        gathering.problem(path, entry, f"the name is {name!r}; expected a text")
    return f"{name}"


def _annotated(entry: str, record: dict[str, Any], label: int, name: str, crowd: bool) -> Annotated:
    box = record.get("bbox")
    four = box if isinstance(box, list) and len(box) == 4 else [None] * 4
    x, y, w, h = (number(side) for side in four)
    return Annotated(
        entry,
        label,
        name,
        f"bbox is {box}",
        (w, h),
        (x, y, x + w, y + h),
        crowd,
    )


def _note_others(gathering: Gathering) -> None:
    """Note the images beside those that are annotated."""
    for folder in sorted({image.parent for image in gathering.sources}):
        for image in sorted(folder.iterdir()):
            if image.suffix.lower() in SUFFIXES and image not in gathering.sources:
                gathering.note(image, "", "the image has no annotation")


def _kind(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
