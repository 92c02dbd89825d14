"""Write the boxes around the masks of a folder as a file of COCO, for `real_detection.py`.

    python examples/masks_to_coco.py FOLDER --category nucleus

The folder has a folder for each image: in it `images`, with the image, and `masks`, with an image
for each object that is not 0 where the object is, as those of the Data Science Bowl of 2018. The
file is `instances.json` in the folder. Masks without an object are left out, and counted. It needs
Pillow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


class FolderError(ValueError):
    """A folder that is not laid out as expected."""


class Annotated(NamedTuple):
    """An image and the objects in it.

    Attributes:
        path: Where the image is.
        size: Its width and height, in pixels.
        boxes: `[N, 4]` corner, width and height, in pixels counted from 0.
        areas: `[N]` the pixels of each object.
        empty: How many masks have no object.
    """

    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    areas: np.ndarray
    empty: int


def annotated(folder: Path) -> Annotated:
    """Read the folder of an image.

    Raises:
        FolderError: There is not one image, or a mask is of another size.
    """
    images, masks = (_pictures(folder / name) for name in ("images", "masks"))
    if len(images) != 1:
        raise FolderError(f"{folder / 'images'} has {len(images)} images; expected one")
    with Image.open(images[0]) as image:
        width, height = image.size
    boxes, areas = [], []
    for path in masks:
        with Image.open(path) as mask:
            inside = np.asarray(mask.convert("L")) > 0
        if inside.shape != (height, width):
            here = " x ".join(map(str, inside.shape[::-1]))
            raise FolderError(f"{path} is {here}, and its image {width} x {height}")
        if inside.any():
            columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
            corner, end = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
            boxes.append([*corner, *np.subtract(end, corner)])
            areas.append(inside.sum())
    found = np.array(boxes, dtype=int).reshape(-1, 4)
    return Annotated(
        images[0], (width, height), found, np.array(areas, dtype=int), len(masks) - len(found)
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FolderError(f"there is no folder {folder}")
    return sorted(x for x in folder.iterdir() if x.suffix.lower() in SUFFIXES)


def coco(root: Path, found: Sequence[Annotated], category: str) -> dict[str, Any]:
    """Return images and their objects as COCO writes them."""
    images, annotations = [], []
    for number, each in enumerate(found, 1):
        width, height = each.size
        name = each.path.relative_to(root).as_posix()
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box, area in zip(each.boxes.tolist(), each.areas.tolist(), strict=True):
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append({**about, "bbox": box, "area": area, "iscrowd": 0})
    categories = [{"id": 1, "name": category}]
    return {"images": images, "categories": categories, "annotations": annotations}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file, or say in a line why that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of folders with images and masks")
    parser.add_argument("--category", default="object", help="what they are (%(default)s)")
    given = parser.parse_args(argv)
    try:
        if not given.folder.is_dir():
            raise FolderError(f"there is no folder {given.folder}")
        folders = sorted(x for x in given.folder.iterdir() if x.is_dir())
        if not folders:
            raise FolderError(f"{given.folder} has no folders; expected one for each image")
        found = [annotated(folder) for folder in folders]
    except (FolderError, OSError) as error:
        raise SystemExit(f"masks_to_coco.py: {error}") from error
    path = given.folder / "instances.json"
    path.write_text(json.dumps(coco(given.folder, found, given.category)) + "\n")
    objects, empty = (sum(x) for x in zip(*((len(x.boxes), x.empty) for x in found), strict=True))
    print(f"{path}: {len(found)} images, {objects} objects; {empty} masks were empty")


if __name__ == "__main__":
    main()
