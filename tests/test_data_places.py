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


@pytest.mark.parametrize(
    "files",
    [
        {"train": "annotations/instances_train2017.json", "val": "annotations/instances_val.json"},
        {"train": "train/_annotations.coco.json", "valid": "valid/_annotations.coco.json"},
        {"train": "train.json", "train2": "train2.json"},
        {"fold1": "annotations/ann_fold1_of3.json", "fold2": "annotations/ann_fold2_of3.json"},
        {"all": "annotations/all.JSON"},
    ],
)
def test_the_names_of_splits_are_those_that_are_read(tmp_path: Path, files: dict[str, str]) -> None:
    for k, path in enumerate(files.values()):
        beside = (tmp_path / path).parent
        image((tmp_path if beside.name == "annotations" else beside) / f"{k}.png")
        annotate(tmp_path / path, f"{k}.png")
    assert hd.check(tmp_path).splits == dict.fromkeys(files, 1)
    for k, name in enumerate(files):
        (example,) = hd.read(tmp_path, split=name).examples
        assert example.path.name == f"{k}.png"


def test_categories_that_differ_are_told_with_all_else(tmp_path: Path) -> None:
    for name, category in (("train", "cell"), ("val", "dot")):
        image(tmp_path / f"{name}.png")
        annotate(tmp_path / f"{name}.json", f"{name}.png", "missing.png", category=category)
    report = hd.check(tmp_path)
    assert report.annotated == {"cell": 2}
    assert report.objects == {"cell": 1}
    what = "are not those of the files before it; take one of train.json, val.json at a time"
    assert (tmp_path / "val.json", "categories", what) in report.problems
    assert sum("no image 'missing.png'" in x.what for x in report.problems) == 2


def test_a_data_set_two_levels_down_with_folders_in_its_folders(tmp_path: Path) -> None:
    """What lies deeper is left out, with a note."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    text = "<annotation><size><width>20</width><height>10</height></size></annotation>"
    for name in ("a", "b", "sub/c"):
        image(root / "JPEGImages" / f"{name}.png")
        path = root / "Annotations" / f"{name}.XML"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "Annotations" / "._a.xml").write_bytes(b"\0")  # as one system leaves them
    for folder in (tmp_path, tmp_path / "VOCdevkit", root):
        assert [x.path.stem for x in hd.read(folder).examples] == ["a", "b"]
        report = hd.check(folder)
        assert report.problems == ()
        assert [(x.path, x.what) for x in report.notes] == [
            (root / name / "sub", f"1 files in it are left out; expected right in {name}")
            for name in ("Annotations", "JPEGImages")
        ]
