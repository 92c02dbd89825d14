"""Folders of images: two layouts of the same scenes are read alike, and every fault is told."""

from __future__ import annotations

import json
import re
import shutil
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_data as hd

CLASSES = ("cell", "dot", "eye", "fur")
# For each image its size, and its objects: class, corner and sides in pixels from 0, crowd.
SCENES: dict[str, tuple[tuple[int, int], list[tuple[str, tuple[int, int, int, int], bool]]]] = {
    "a": ((20, 10), [("dot", (5, 2, 10, 4), False), ("cell", (0, 0, 20, 10), True)]),
    "b": ((8, 16), []),
    "c": (
        (30, 40),
        [
            ("fur", (10, 20, 15, 20), False),
            ("cell", (0, 0, 2, 2), False),
            ("eye", (3, 3, 6, 6), False),
        ],
    ),
}
IDS = {"dot": 7, "cell": 3, "fur": 90, "eye": 8}  # of COCO's categories
SPLITS = {"train": ["a", "c"], "val": ["b"]}


def png(size: tuple[int, int]) -> bytes:
    """Return a black image, without Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    width, height = size
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height))
    parts = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def voc(folder: Path) -> Path:
    """Write the scenes in the layout of PASCAL VOC."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for name, ((width, height), objects) in SCENES.items():
        (folder / "JPEGImages" / f"{name}.png").write_bytes(png((width, height)))
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = f"{name}.png"
        size = ET.SubElement(root, "size")
        ET.SubElement(size, "width").text = f"{width}"
        ET.SubElement(size, "height").text = f"{height}"
        for kind, (x, y, w, h), crowd in objects:
            element = ET.SubElement(root, "object")
            ET.SubElement(element, "name").text = kind
            ET.SubElement(element, "difficult").text = f"{int(crowd)}"
            box = ET.SubElement(element, "bndbox")
            for side, value in zip(("xmin", "ymin"), (x + 1, y + 1), strict=True):
                ET.SubElement(box, side).text = f"{value}"
            for side, value in zip(("xmax", "ymax"), (x + w, y + h), strict=True):
                ET.SubElement(box, side).text = f"{value}"
        ET.ElementTree(root).write(folder / "Annotations" / f"{name}.xml")
    for split, names in SPLITS.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def about(names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what a file of COCO says of some scenes; ids have gaps, and no order."""
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": name} for name, k in IDS.items()],
    }
    for name in reversed(names):
        (width, height), objects = SCENES[name]
        image = 10 * ord(name)
        content["images"].append(
            {"id": image, "file_name": f"{name}.png", "width": width, "height": height}
        )
        for k, (kind, box, crowd) in enumerate(objects):
            content["annotations"].append(
                {
                    "id": image + k,
                    "image_id": image,
                    "category_id": IDS[kind],
                    "bbox": [*box],
                    "iscrowd": int(crowd),
                }
            )
    return content


def coco(folder: Path, images: str = "images") -> Path:
    """Write the scenes in the layout of COCO."""
    (folder / "annotations").mkdir(parents=True)
    for split, names in SPLITS.items():
        place = folder / images.format(split=split)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / f"{name}.png").write_bytes(png(SCENES[name][0]))
        path = folder / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(about(names)))
    return folder


def check_scenes(found: hd.Dataset, names: list[str]) -> None:
    """Compare with the scenes, by numbers of their own."""
    assert found.classes == CLASSES
    assert [x.path.name for x in found.examples] == [f"{name}.png" for name in names]
    for example, name in zip(found.examples, names, strict=True):
        (width, height), objects = SCENES[name]
        assert (example.width, example.height) == (width, height)
        expected = [
            [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            for _, (x, y, w, h), _ in objects
        ]
        boxes = np.reshape(np.asarray(expected, np.float32), (-1, 4))
        np.testing.assert_array_equal(example.boxes, boxes, strict=True)
        labels = np.asarray([CLASSES.index(kind) for kind, _, _ in objects], np.int64)
        np.testing.assert_array_equal(example.labels, labels, strict=True)
        crowd = np.asarray([crowd for _, _, crowd in objects], bool)
        np.testing.assert_array_equal(example.crowd, crowd, strict=True)


@pytest.mark.parametrize("layout", [voc, coco])
@pytest.mark.parametrize("split", [None, *SPLITS])
def test_two_layouts_of_the_same_scenes_are_one_dataset(
    tmp_path: Path, layout: Callable[[Path], Path], split: str | None
) -> None:
    """A label means the same in every split, whichever classes that has."""
    folder = layout(tmp_path / "scenes")
    check_scenes(hd.read(folder, split=split), [*SCENES] if split is None else SPLITS[split])
    check_scenes(hd.read(tmp_path, split="train"), SPLITS["train"])  # whose only folder it is


@pytest.mark.parametrize("images", ["{split}2017", "images/{split}2017", "."])
def test_images_of_coco_may_lie_in_several_places(tmp_path: Path, images: str) -> None:
    folder = coco(tmp_path, images)
    check_scenes(hd.read(f"{folder}"), [*SCENES])
    file = folder / "annotations" / "instances_val2017.json"
    check_scenes(hd.read(file), SPLITS["val"])
    assert hd.check(file).notes == ()  # others annotate the images beside


def test_a_split_takes_the_images_of_its_own_folder(tmp_path: Path) -> None:
    """Where two folders have images of one name."""
    folder = coco(tmp_path, "{split}2017")
    (folder / "train2017" / "b.png").write_bytes(png((5, 5)))
    (example,) = hd.read(folder, split="val").examples
    assert example.path == folder / "val2017" / "b.png"


def test_a_json_beside_the_images(tmp_path: Path) -> None:
    for name, (size, _) in SCENES.items():
        (tmp_path / f"{name}.png").write_bytes(png(size))
    (tmp_path / "all.json").write_text(json.dumps(about([*SCENES])))
    check_scenes(hd.read(tmp_path), [*SCENES])
    check_scenes(hd.read(tmp_path / "all.json"), [*SCENES])


@pytest.mark.parametrize("layout", [voc, coco])
def test_a_folder_for_each_split(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    """With the annotations beside the images. Splits are equal in their classes."""
    whole = layout(tmp_path / "whole")
    for split, names in SPLITS.items():
        folder = tmp_path / "split" / split
        folder.mkdir(parents=True)
        for path in whole.rglob("*"):
            if path.stem in names:
                shutil.copy(path, folder)
            elif path.stem == f"instances_{split}2017":
                shutil.copy(path, folder / "_annotations.coco.json")
        check_scenes(hd.read(tmp_path / "split", split=split), names)
    check_scenes(hd.read(tmp_path / "split"), [*SCENES])
    assert hd.check(tmp_path / "split").notes == ()
    check_scenes(hd.read(tmp_path / "split" / "train"), SPLITS["train"])
    with pytest.raises(hd.DataError, match=r"split is 'test'.*train.*val"):
        hd.read(tmp_path / "split", split="test")


def test_other_annotations_of_the_same_images_are_left_out(tmp_path: Path) -> None:
    """Keypoints and captions, as COCO has them, and other files without boxes."""
    folder = coco(tmp_path)
    keypoints = about(["a"]) | {"categories": [{"id": 1, "name": "person"}]}
    for name, content in (("person_keypoints", keypoints), ("captions", {"images": []})):
        path = folder / "annotations" / f"{name}_train2017.json"
        path.write_text(json.dumps(content))
    check_scenes(hd.read(folder), [*SCENES])
    check_scenes(hd.read(folder, split="train"), SPLITS["train"])
    path.rename(path.with_name("all.json"))
    (folder / "annotations" / "person_keypoints_train2017.json").unlink()
    for split in SPLITS:
        path = folder / "annotations" / f"instances_{split}2017.json"
        path.rename(path.with_name(f"{split}.json"))
    report = hd.check(folder)
    assert [x.what for x in report.notes] == ["the JSON is left out, as it annotates no boxes"]
    assert report.splits == {"train": 2, "val": 1}
    check_scenes(hd.read(folder), [*SCENES])


def test_categories_of_all_files_have_to_agree(tmp_path: Path) -> None:
    folder = coco(tmp_path)
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("fur", "hair"))
    with pytest.raises(hd.DataError, match=r"val2017\.json, categories: are not those of"):
        hd.read(folder)
    assert hd.read(folder, split="val").classes == ("cell", "dot", "eye", "hair")
    report = hd.check(folder)
    assert (report.images, [x.path for x in report.problems]) == (2, [path])


def test_splits_of_a_class_and_blank_lines(tmp_path: Path) -> None:
    """As those of PASCAL VOC, `NAME  1` or -1; a name of an image may have blanks itself."""
    folder = voc(tmp_path)
    for place, suffix in (("Annotations", "xml"), ("JPEGImages", "png")):
        shutil.copy(folder / place / f"a.{suffix}", folder / place / f"a 1.{suffix}")
    listed = folder / "ImageSets" / "Main" / "cell_val.txt"
    listed.write_text("a  1\n\nb -1\nc  0\na 1\n")
    names = [x.path.stem for x in hd.read(folder, split="cell_val").examples]
    assert names == ["a 1", "a", "b", "c"]


def test_pixels_count_from_1_in_voc_and_what_sticks_out_a_little_is_clipped(tmp_path: Path) -> None:
    """A tool that counts from 0 writes xmin 0, and boxes are not to reach beyond the image."""
    folder = voc(tmp_path)
    path = folder / "Annotations" / "a.xml"
    text = path.read_text().replace("<xmin>6</xmin>", "<xmin>0</xmin>")
    path.write_text(text.replace("<xmax>15</xmax>", "<xmax>22</xmax>"))
    example = hd.read(folder).examples[0]
    np.testing.assert_allclose(example.boxes[0], [0.5, 0.4, 1, 0.4], rtol=1e-6)


def test_pixels_are_resized_and_have_three_channels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    gray = np.repeat(np.asarray([[0, 200]], np.uint8), 4, axis=1)  # 8 pixels wide
    rgb = np.stack([gray, gray // 2, 0 * gray], axis=-1)
    alpha = np.concatenate([rgb, np.full_like(gray[..., None], 7)], axis=-1)
    none = hd.read(coco(tmp_path / "scenes")).examples[1]
    for k, (array, expected) in enumerate(
        [
            (gray, [[0, 0, 0], [200, 200, 200]]),
            (gray.astype(np.uint16) * 256, [[0, 0, 0], [200, 200, 200]]),
            (rgb, [[0, 0, 0], [200, 100, 0]]),
            (alpha, [[0, 0, 0], [200, 100, 0]]),
        ]
    ):
        path = tmp_path / f"{k}.png"
        image.fromarray(array).save(path)
        found = hd.pixels(none._replace(path=path), 3, 8)
        assert found.shape == (3, 8, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[0, [0, -1]], expected)
        # Half of the width, between the halves: the mean of what shrinks.
        small = hd.pixels(none._replace(path=path), 1, 1)
        assert abs(int(small[0, 0, 0]) - 100) <= 1


def test_sizes_are_those_that_pillow_finds(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    from hungarian_data.images import image_size

    black = image.new("RGB", (37, 21))
    exif = image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for name, options in {
        "a.png": {},
        "b.jpg": {},
        "c.jpg": {"progressive": True, "exif": exif.tobytes(), "comment": b"\xff\xd9"},
        "d.bmp": {},
        "e.webp": {},
        "f.gif": {},
        "g.tiff": {},
    }.items():
        black.save(tmp_path / name, **options)
        assert image_size(tmp_path / name) == (37, 21)
    whole = (tmp_path / "c.jpg").read_bytes()
    for kept in (3, 30, len(whole) // 2, len(whole) - 2):
        (tmp_path / "c.jpg").write_bytes(whole[:kept])
        with pytest.raises(hd.DataError, match="cut off"):
            image_size(tmp_path / "c.jpg")
    # A marker may be filled up, and what follows the end is no image.
    (tmp_path / "c.jpg").write_bytes(whole[:2] + b"\xff\xff" + whole[2:] + bytes(9000))
    assert image_size(tmp_path / "c.jpg") == (37, 21)
    (tmp_path / "a.png").write_bytes(png((0, 4)))
    with pytest.raises(hd.DataError, match="the header of the PNG is broken"):
        image_size(tmp_path / "a.png")


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of PNG and JPEG are read nevertheless."""
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    example = hd.read(voc(tmp_path)).examples[0]
    install = re.escape('pip install "hungarian-core[data]"')
    with pytest.raises(ImportError, match=f"decoding an image needs Pillow.*{install}"):
        hd.pixels(example, 2, 2)


@pytest.mark.parametrize("layout", [voc, coco])
def test_a_split_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, layout: Callable[[Path], Path]
) -> None:
    folder = layout(tmp_path)
    with pytest.raises(hd.DataError, match=r"split is 'trian'.*train.*, .*val"):
        hd.read(folder, split="trian")


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(hd.DataError, match=r"nowhere is no folder and no \.json file"):
        hd.read(tmp_path / "nowhere")
    with pytest.raises(hd.DataError, match=r"no data set that is known: expected Annotations/"):
        hd.read(tmp_path)
    with pytest.raises(ValueError, match=r"on_error is 'skp'.*Did you mean 'skip'\?"):
        hd.read(tmp_path, on_error="skp")


def test_the_first_problem_is_raised_and_all_are_skipped(tmp_path: Path) -> None:
    folder = voc(tmp_path / "my scenes")
    path = folder / "Annotations" / "c.xml"
    path.write_text(path.read_text().replace("<xmax>2</xmax>", "<xmax>0</xmax>"))
    (folder / "JPEGImages" / "b.png").unlink()
    with pytest.raises(hd.DataError) as caught:
        hd.read(folder, split="train")
    advice = (
        'read(..., on_error="skip") leaves out what is broken; '
        f"`hungarian-core data check '{folder}'` lists all problems"
    )
    told = "the corners are reversed; expected the left upper one first"
    shown = f"xmin 1, ymin 1, xmax 0, ymax 2: {told}"
    assert str(caught.value) == f"{path}, object 2 cell: {shown}. {advice}"
    with pytest.warns(UserWarning, match="has 2 problems; what is broken is left out") as warned:
        found = hd.read(folder, on_error="skip")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert [x.path.stem for x in found.examples] == ["a", "c"]
    assert [len(x.boxes) for x in found.examples] == [2, 2]
    with (
        pytest.warns(UserWarning, match="has 1 problem; "),
        pytest.raises(hd.DataError, match="has no image that can be used in 'val'"),
    ):
        hd.read(folder, split="val", on_error="skip")
