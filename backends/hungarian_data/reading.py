"""Find out the layout of a folder, and read it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from hungarian_core._options import one_of
from hungarian_data import coco, voc
from hungarian_data.dataset import DataError, Dataset
from hungarian_data.gathering import Gathering
from hungarian_data.places import annotates, with_suffix

DEPTH = 2  # of a data set in folders that hold nothing else, as VOCdevkit/VOC2007 may


class Layout(NamedTuple):
    """Where the annotations are: folders with files of PASCAL VOC, or files of COCO."""

    name: str
    root: Path
    annotations: tuple[Path, ...]


def read(
    folder: str | os.PathLike[str], *, split: str | None = None, on_error: str = "raise"
) -> Dataset:
    """Read images and boxes of a folder in the layout of PASCAL VOC or COCO.

    Images are looked at for their sizes and decoded by `pixels` alone. In files of PASCAL VOC
    pixels are counted from 1, so that a box begins at `xmin - 1` and ends at `xmax`. A box that
    leaves its image by at most 2 pixels is clipped; one that leaves it by more is a problem, as
    are boxes of no area, images that are not there, cut off or not of the annotated size, and
    all else that `check` lists.

    Args:
        folder: In the layout of PASCAL VOC, a folder with `Annotations/*.xml`, `JPEGImages/` and
            perhaps `ImageSets/Main/*.txt`, or with a file of XML beside each image. In that of
            COCO, one with `annotations/*.json`, or a `.json` beside the images or their folders;
            or a `.json` itself. Or a folder with such a folder for each split, or with nothing
            else than one, perhaps twice, as `VOCdevkit/VOC2007`.
        split: The name of a file in `ImageSets/Main`, such as "train", or a word in that of a
            `.json`, or the folder of a split. None takes all.
        on_error: "raise" stops at the first problem. "skip" leaves out boxes and images that are
            broken, and warns once.

    Raises:
        DataError: The folder is no data set, has no such split, or has a problem; a subclass of
            ValueError.

    Example:
        >>> import json, tempfile, hungarian_data
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (20, 10)).save(folder / "a.png")
        >>> box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 2, 10, 4]}
        >>> about = {
        ...     "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
        ...     "categories": [{"id": 3, "name": "cell"}],
        ...     "annotations": [box],
        ... }
        >>> _ = (folder / "all.json").write_text(json.dumps(about))
        >>> classes, (example,) = hungarian_data.read(folder)
        >>> classes, example.width, example.height, example.labels.tolist()
        (('cell',), 20, 10, [0])
        >>> example.boxes.tolist()
        [[0.5, 0.4000000059604645, 0.5, 0.4000000059604645]]
    """
    one_of("on_error", on_error, ("raise", "skip"))
    folder = Path(folder)
    gathering = Gathering(folder, raising=on_error == "raise")
    _, dataset = gather(folder, split, gathering)
    if gathering.problems:
        count = len(gathering.problems)
        warnings.warn(
            f"{folder} has {count} problem{'s' * (count != 1)}; what is broken is left out. "
            f"{gathering.advice} tells more",
            stacklevel=2,
        )
    if not dataset.examples:
        raise DataError(f"{folder} has no image that can be used" + f" in {split!r}" * bool(split))
    return dataset


def gather(folder: Path, split: str | None, gathering: Gathering) -> tuple[Layout, Dataset]:
    """Read a folder in whichever layout it is."""
    try:
        layout = find_layout(folder)
        if layout.name == voc.NAME:
            classes = voc.scan(layout.root, layout.annotations, split, gathering)
        else:
            classes = coco.scan(layout.annotations, split, gathering)
    except OSError as error:  # of a folder that cannot be listed; files are a problem each
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    examples = sorted(gathering.examples, key=lambda x: (x.path.name, x.path))
    return layout, Dataset(classes, tuple(examples))


def find_layout(folder: Path) -> Layout:
    """Find out where the annotations of a folder are."""
    if os.path.isfile(folder) and folder.suffix.lower() == ".json":
        return Layout(coco.NAME, folder.parent, (folder,))
    if not os.path.isdir(folder):  # also of names that are too long to be asked for
        raise DataError(f"{folder} is no folder and no .json file")
    roots = [folder]
    while len(inside := _folders(roots[-1])) == 1 and len(roots) <= DEPTH:
        roots += inside
    for root in roots:
        # By their contents: some file systems take "annotations" for "Annotations".
        named = [x for x in _folders(root) if annotates(x)]
        for places in (named, [root], _folders(root)):
            if found := tuple(x for x in places if with_suffix(x, ".xml")):
                return Layout(voc.NAME, root, found)
            if files := tuple(x for place in places for x in with_suffix(place, ".json")):
                return Layout(coco.NAME, root, files)
    raise DataError(
        f"{folder} is no data set that is known: expected Annotations/*.xml with JPEGImages/, as "
        "in PASCAL VOC, or annotations/*.json or *.json with images, as in COCO"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(x for x in folder.iterdir() if x.is_dir() and x.name[0] not in "._")
