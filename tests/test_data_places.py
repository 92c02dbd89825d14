"""Images of one name in several folders: the right one is read, or none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_data as hd

pytest.importorskip("PIL")
from PIL import Image

BOX = [5, 2, 10, 4]


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 10)).save(path)
    return path


def annotate(path: Path, *names: str, category: str = "cell", **values: Any) -> None:
    """Write a file of COCO with a box in each image."""
    ids = range(1, 1 + len(names))
    content = {
        "images": [
            {"id": k, "file_name": x, "width": 20, "height": 10}
            for k, x in zip(ids, names, strict=True)
        ],
        "categories": [{"id": 1, "name": category}],
        "annotations": [{"image_id": k, "category_id": 1, "bbox": BOX, **values} for k in ids],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("json_name", "right", "wrong"),
    [
        ("train2", "images/train2", "images/train"),
        ("train", "images/train", "images/train2"),
        ("ann_val", "val_images", "train_images"),
        ("images_val", "val_images", "train_images"),
        ("val", "images/validation", "images/training"),
        ("train", "images/training", "images/validation"),
        ("instances_val_2017", "val2017", "train_2017"),
        ("instances_minival", "images/minival", "images/val"),
        ("instances_val", "images/val", "images/minival"),
        ("train", "Images/train", "a"),
        ("all", "images", "crops"),
        ("fold_1", "fold_1", "fold_2"),
    ],
)
def test_an_image_is_that_of_the_folder_of_its_split(
    tmp_path: Path, json_name: str, right: str, wrong: str
) -> None:
    """Both folders have an image of the name."""
    expected = image(tmp_path / right / "1.png")
    image(tmp_path / wrong / "1.png")
    annotate(tmp_path / "annotations" / f"{json_name}.json", "1.png")
    (example,) = hd.read(tmp_path, split=json_name).examples
    assert example.path == expected


@pytest.mark.parametrize(
    ("json_name", "folders"),
    [
        ("all", ("images/x", "images/y")),
        ("all", (".", "images")),
        ("train", ("images/setA", "images/setB")),
        ("train", ("train2014", "train2017")),
        ("trainval", ("train", "val")),
    ],
)
def test_an_image_that_may_be_any_of_several_is_none(
    tmp_path: Path, json_name: str, folders: tuple[str, ...]
) -> None:
    both = [image(tmp_path / x / "1.png") for x in folders]
    annotate(tmp_path / "annotations" / f"{json_name}.json", "1.png")
    told = f"the file_name '1.png' may be {' or '.join(map(str, both))}; "
    with pytest.raises(hd.DataError, match=re.escape(told)):
        hd.read(tmp_path)
    assert hd.check(tmp_path).images == 0
    both[1].unlink()
    assert hd.read(tmp_path).examples[0].path == both[0]


def test_an_image_of_another_split_is_noted(tmp_path: Path) -> None:
    """LVIS annotates images of both folders for one split; elsewhere it may be a mistake."""
    for name in ("train2017/1.png", "val2017/2.png"):
        image(tmp_path / name)
    annotate(tmp_path / "annotations" / "val.json", "1.png", "2.png")
    assert hd.check(tmp_path).images == 2
    (note,) = hd.check(tmp_path).notes
    own, other = tmp_path / "val2017", tmp_path / "train2017"
    assert note.what == f"1 images are not in {own}, and are taken from {other}"


def test_a_split_is_a_whole_word_first(tmp_path: Path) -> None:
    for k, name in enumerate(("train", "train2", "train_old")):
        image(tmp_path / "images" / f"{k}.png")
        annotate(tmp_path / "annotations" / f"{name}.json", f"{k}.png")
    assert hd.read(tmp_path, split="train2").examples[0].path.name == "1.png"
    with pytest.raises(hd.DataError, match=r"names 2 files.*/train\.json.*/train_old"):
        hd.read(tmp_path, split="train")


@pytest.mark.parametrize("name", ["sub\\1.png", "sub/1.PNG"])
def test_names_of_other_systems(tmp_path: Path, name: str) -> None:
    expected = image(tmp_path / "images" / "sub" / "1.png")
    annotate(tmp_path / "annotations" / "all.json", name)
    assert hd.read(tmp_path).examples[0].path == expected
    image(expected.with_name("1.pNg"))
    if name.endswith("PNG"):
        with pytest.raises(hd.DataError, match=r"may be .*1\.pNg or .*1\.png"):
            hd.read(tmp_path)


def test_an_image_of_voc_with_two_suffixes_is_that_which_is_named(tmp_path: Path) -> None:
    first, second = (image(tmp_path / f"a.{suffix}") for suffix in ("bmp", "png"))
    box = "<bndbox><xmin>6</xmin><ymin>3</ymin><xmax>15</xmax><ymax>6</ymax></bndbox>"
    text = f"<annotation>%s<object><name>cell</name>{box}</object></annotation>"
    for path in (first, second):
        (tmp_path / "a.xml").write_text(text % f"<filename>{path.name}</filename>")
        (example,) = hd.read(tmp_path).examples
        assert example.path == path
        np.testing.assert_allclose(example.boxes, [[0.5, 0.4, 0.5, 0.4]])
    (tmp_path / "a.xml").write_text(text % "")
    with pytest.raises(hd.DataError, match=r"filename: is missing; expected a\.bmp or a\.png"):
        hd.read(tmp_path)
