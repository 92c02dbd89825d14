"""`check` and its command: every fault is told, with its file and entry, in one pass."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hungarian_data as hd
from hungarian_core import cli

pytest.importorskip("PIL")
from PIL import Image

# Two objects on an image of 20 x 10 pixels; another image has none.
VOC = """<annotation>
<filename>a.png</filename><size><width>20</width><height>10</height></size>
<object><name>cell</name>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>8</xmax><ymax>9</ymax></bndbox></object>
<object><name>dot</name>
<bndbox><xmin>11</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>
</annotation>"""
EMPTY = "<annotation><size><width>8</width><height>8</height></size></annotation>"
COCO: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 20, "height": 10},
        {"id": 2, "file_name": "b.png", "width": 8, "height": 8},
    ],
    "categories": [{"id": 5, "name": "cell"}, {"id": 6, "name": "dot"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 7, 7]},
        {"id": 2, "image_id": 1, "category_id": 6, "bbox": [10, 0, 10, 10]},
    ],
}
A, SPLIT, BOXES = "Annotations/a.xml", "ImageSets/Main/train.txt", "annotations/all.json"


def voc(folder: Path) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("L", (20, 10)).save(folder / "JPEGImages" / "a.png")
    Image.new("L", (8, 8)).save(folder / "JPEGImages" / "b.png")
    (folder / A).write_text(VOC)
    (folder / "Annotations" / "b.xml").write_text(EMPTY)
    (folder / SPLIT).write_text("a\nb\n")
    return folder


def coco(folder: Path) -> Path:
    for name in ("annotations", "images"):
        (folder / name).mkdir(parents=True)
    Image.new("L", (20, 10)).save(folder / "images" / "a.png")
    Image.new("L", (8, 8)).save(folder / "images" / "b.png")
    (folder / BOXES).write_text(json.dumps(COCO))
    return folder


Edit = Callable[[Path], object]


def put(old: str, new: str, name: str = A) -> Edit:
    """Return what puts a text in the place of another."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert text.count(old) == 1
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return edit


def write(name: str, content: str | bytes) -> Edit:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def cut(name: str, kept: int) -> Edit:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:kept])


def update(listed: str, k: int, **values: Any) -> Edit:
    """Return what changes an entry of COCO; Ellipsis takes away."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / BOXES).read_text())
        content[listed][k].update(values)
        content[listed][k] = {x: v for x, v in content[listed][k].items() if v is not ...}
        (folder / BOXES).write_text(json.dumps(content))

    return edit


UNSAFE = '<!DOCTYPE annotation [<!ENTITY x "cell">]>' + VOC.replace("cell", "&x;")
P, FIRST, FAR = "JPEGImages/a.png", "object 1 cell", "<bndbox><xmin>2</xmin>"
# What is done, the file and the entry that are told, what is said, and how many objects are left.
VOC_FAULTS: dict[str, tuple[Edit, str, str, str, int]] = {
    "XML that ends early": (cut(A, 60), A, "", "the XML cannot be read: ", 0),
    "empty XML": (cut(A, 0), A, "", "the XML cannot be read: no element", 0),
    "another XML": (write(A, "<svg/>"), A, "", "is <svg>; expected <annotation>", 0),
    "XML with entities": (write(A, UNSAFE), A, "", "a DOCTYPE, 'annotation', which is refused", 0),
    "in UTF-16": (write(A, UNSAFE.encode("utf-16")), A, "", "which is refused as unsafe", 0),
    "no image": (lambda x: (x / P).unlink(), A, "filename", "there is no image 'a.png'", 0),
    "empty image": (cut(P, 0), P, "", "the file is empty; expected an image", 0),
    "image without size": (cut(P, 20), P, "", "the header of the PNG is broken", 0),
    "half an image": (cut(P, 50), P, "", "the PNG is cut off: its end is missing", 0),
    "no image at all": (write(P, "<html>"), P, "", "neither a PNG, a JPEG nor another", 0),
    "another size": (
        put(">20</w", ">21</w"),
        A,
        "size",
        "is 21 x 10, but the image has 20 x 10",
        0,
    ),
    "a turned size": (
        put("<width>20</width><height>10<", "<width>10</width><height>20<"),
        *(A, "size", "is 10 x 20, but the image has 20 x 10. The image may be turned by its Exif"),
        0,
    ),
    "a size in words": (put(">20</w", ">wide</w"), A, "size", "wide x 10; expected numbers", 0),
    "a split in the air": (put("b", "c", SPLIT), SPLIT, "line 2", "'c' has no annotation c.xml", 2),
    "two for one image": (
        lambda x: (x / "Annotations" / "z.xml").write_text(VOC),
        *("Annotations/z.xml", "size", "a.png is annotated in "),
        2,
    ),
    "a split that is a folder": (
        lambda x: ((x / SPLIT).unlink(), (x / SPLIT).mkdir()),
        *(SPLIT, "", "cannot be read: Is a directory"),
        2,
    ),
    "a split that leads nowhere": (
        lambda x: ((x / SPLIT).unlink(), (x / SPLIT).symlink_to("nowhere")),
        *(SPLIT, "", "cannot be read: No such file"),
        2,
    ),
    "perhaps difficult": (
        put("<name>cell</name>", "<name>cell</name><difficult>maybe</difficult>"),
        *(A, FIRST, "difficult is 'maybe'; expected 0 or 1"),
        1,
    ),
    "digits of Python": (put(FAR, FAR.replace("2", "1_0")), A, FIRST, "xmin 1_0, .*four finite", 1),
    "other digits": (put(FAR, FAR.replace("2", "\u0662")), A, FIRST, "expected four finite", 1),
    "reversed": (put(FAR, FAR.replace("2", "9")), A, FIRST, "xmin 9, .*: the corners are rev", 1),
    "far out": (put(FAR, FAR.replace("2", "-2.5")), A, FIRST, "3.5 pixels are outside", 1),
    "just beyond": (
        put("<xmin>11</xmin><ymin>1</ymin><xmax>20<", "<xmin>21</xmin><ymin>1</ymin><xmax>22<"),
        *(A, "object 2 dot", "the box is outside of the image, 20 x 10"),
        1,
    ),
    "nan": (put(FAR, FAR.replace("2", "nan")), A, FIRST, "xmin nan, .*expected four finite", 1),
    "words": (put(FAR, FAR.replace("2", "two")), A, FIRST, "xmin two, .*expected four finite", 1),
    "no side": (put(FAR, "<bndbox>"), A, FIRST, "xmin missing, .*expected four finite", 1),
    "no name": (put("<name>cell</name>", ""), A, "object 1", "has no name; expected that of", 1),
}
J, ONE = BOXES, "annotations[0], id 1"
COCO_FAULTS: dict[str, tuple[Edit, str, str, str, int]] = {
    "JSON that ends early": (cut(J, 60), J, "", "the JSON cannot be read: ", 0),
    "a list": (
        write(J, "[]"),
        J,
        "",
        "the JSON is of type list; expected an object with images",
        0,
    ),
    "no list": (put('"annotations"', '"boxes"', J), J, "annotations", "is missing; expected a", 0),
    "no entry": (
        put('[{"id": 1, "image', '[7, {"id": 1, "image', J),
        J,
        "annotations[0]",
        "int",
        2,
    ),
    "one id for two images": (update("images", 1, id=1), J, "images[1], id 1", "this id too", 2),
    "an image without id": (update("images", 1, id=...), J, "images[1]", "the id is None; exp", 2),
    "one id for two boxes": (
        update("annotations", 1, id=1),
        *(J, "annotations[1], id 1", r"annotations\[0\], id 1 has this id too"),
        1,
    ),
    "one id for two classes": (
        update("categories", 1, id=5),
        *(J, "categories[1], id 5", "has this id too"),
        1,
    ),
    "an id in words": (
        update("categories", 1, id="6"),
        *(J, "categories[1], id '6'", "the id is '6'; expected an integer"),
        1,
    ),
    "a class without name": (
        update("categories", 1, name=...),
        *(J, "categories[1], id 6", "the name is None; expected a text"),
        2,
    ),
    "no such image": (update("annotations", 0, image_id=3), J, ONE, "image_id is 3, which no", 1),
    "a list of images": (update("annotations", 0, image_id=[1]), J, ONE, r"image_id is \[1\]", 1),
    "no such class": (update("annotations", 0, category_id=7), J, ONE, "category_id is 7, wh", 1),
    "no box": (update("annotations", 0, bbox=...), J, ONE, "bbox is None: expected four", 1),
    "three": (update("annotations", 0, bbox=[1, 2, 3]), J, ONE, "expected four finite numbers", 1),
    "nan": (update("annotations", 0, bbox=[1, 2, 7, float("nan")]), J, ONE, "nan]: expected f", 1),
    "perhaps a crowd": (update("annotations", 0, iscrowd=2), J, ONE, "iscrowd is 2; expected", 1),
    "no area": (update("annotations", 0, bbox=[1, 2, 7, 0]), J, ONE, "the box has no area", 1),
    "reversed": (update("annotations", 0, bbox=[8, 9, -7, -7]), J, ONE, "corners are reversed", 1),
    "far out": (update("annotations", 0, bbox=[1, 2, 23, 7]), J, ONE, "4 pixels are outside", 1),
    "no image": (update("images", 1, file_name="c.png"), J, "images[1], id 2", "no image 'c.p", 2),
    "no file": (
        update("images", 1, file_name=3),
        J,
        "images[1], id 2",
        "the file_name is 3; ex",
        2,
    ),
    "out of the folder": (
        update("images", 1, file_name="../images/b.png"),
        *(J, "images[1], id 2", "leads out of the folder"),
        2,
    ),
    "two for one image": (
        update("images", 1, file_name="a.png"),
        *(J, "images[1], id 2", "a.png is annotated in "),
        2,
    ),
}


@pytest.mark.parametrize(
    ("layout", "fault"),
    [*((voc, x) for x in VOC_FAULTS.values()), *((coco, x) for x in COCO_FAULTS.values())],
    ids=[*(f"voc-{x}" for x in VOC_FAULTS), *(f"coco-{x}" for x in COCO_FAULTS)],
)
def test_faults(
    tmp_path: Path,
    layout: Callable[[Path], Path],
    fault: tuple[Edit, str, str, str, int],
) -> None:
    """`check` tells each and `read` raises it, but those of splits that are not read."""
    edit, name, entry, what, left = fault
    folder = layout(tmp_path / "data")
    assert hd.check(folder).problems == ()
    edit(folder)
    report = hd.check(folder)
    found = report.problems[0]
    assert (found.path, found.entry) == (folder / name, entry)
    assert re.search(what, found.what), found.what
    # Objects of a class without an id have none, and without any image there is one problem more.
    lost = entry.startswith("categories") and left == 1
    assert len(report.problems) == 1 + lost + (report.images == 0)
    assert sum(report.objects.values()) == left
    assert layout is coco or report.notes == ()
    with pytest.raises(hd.DataError) as caught:
        hd.read(folder, split=None if name != SPLIT else "train")
    assert str(caught.value).startswith(f"{found}. read(")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data")
    edits = ("a split in the air", "reversed", "a size in words", "two for one image")
    for name in edits:
        VOC_FAULTS[name][0](folder)
    cut("JPEGImages/b.png", 0)(folder)
    report = hd.check(folder)
    # The size in words leaves the image out, and the box with it.
    assert [x.path.name for x in report.problems] == [
        "a.xml",
        "b.png",
        "z.xml",
        "train.txt",
        "data",
    ]
    assert report.annotated == {"cell": 2, "dot": 2}
    assert report.objects == {"cell": 0, "dot": 0}


CELL = VOC[VOC.index("<object>") : VOC.index("<object><name>dot")]
VOC_NOTES: dict[str, tuple[Edit, str, str, str]] = {
    "an image more": (
        lambda x: (x / P).with_name("c.JPG").write_bytes(b""),
        *("JPEGImages/c.JPG", "", "the image has no annotation"),
    ),
    "size 0": (put(">20</w", ">0</w"), A, "size", "is 0 x 10; that of the image is taken, 20 x 10"),
    "no size": (put("<width>20</width>", ""), A, "size", "is nothing x 10; that of the image is"),
    "another name": (put(">a.png", ">x/y.png"), A, "filename", "is 'y.png'; a.png is taken"),
    "a box twice": (
        put("<object><name>dot", f"{CELL}<object><name>dot"),
        *(A, FIRST, "2 objects of cell have this box"),
    ),
    "one pixel": (put(FAR, FAR.replace("2", "8")), A, FIRST, "xmax 8, ymax 9: one pixel wide"),
    "an entry twice": (put("b", "b\na", SPLIT), SPLIT, "line 3", "'a' is listed twice"),
    "in two splits": (
        write("ImageSets/Main/val.txt", "b"),
        *("ImageSets/Main/val.txt", "", "1 images are in 'train' too, 'b' is the first"),
    ),
}
COCO_NOTES: dict[str, tuple[Edit, str, str, str]] = {
    "an image more": (
        write("images/c.png", b""),
        *("images/c.png", "", "the image has no annotation"),
    ),
    "no size": (update("images", 0, width=...), J, "images[0], id 1", "is nothing x 10; that of"),
    "a box twice": (
        update("annotations", 1, bbox=[1, 2, 7, 7], category_id=5),
        *(J, ONE, "2 objects of cell have this box"),
    ),
    "a name twice": (
        update("categories", 1, name="cell"),
        *(J, "categories[1], id 6", "categories[0], id 5 is called 'cell' too"),
    ),
}


@pytest.mark.parametrize(
    ("layout", "note"),
    [*((voc, x) for x in VOC_NOTES.values()), *((coco, x) for x in COCO_NOTES.values())],
    ids=[*(f"voc-{x}" for x in VOC_NOTES), *(f"coco-{x}" for x in COCO_NOTES)],
)
def test_what_is_unusual_is_noted_and_read(
    tmp_path: Path, layout: Callable[[Path], Path], note: tuple[Edit, str, str, str]
) -> None:
    edit, name, entry, what = note
    folder = layout(tmp_path / "data")
    assert hd.check(folder).notes == ()
    edit(folder)
    report = hd.check(folder)
    assert report.problems == ()
    (found,) = report.notes
    assert (found.path, found.entry) == (folder / name, entry)
    assert what in found.what
    assert len(hd.read(folder).examples[0].labels) >= 2


def test_the_report_counts(tmp_path: Path) -> None:
    folder = voc(tmp_path)
    put("<xmax>20</xmax>", "<xmax>21.5</xmax>")(folder)  # clipped
    put("<name>dot</name>", "<name>dot</name><difficult>1</difficult>")(folder)
    report = hd.check(folder)
    assert report == hd.Report(
        layout="PASCAL VOC",
        images=2,
        annotated={"cell": 1, "dot": 1},
        objects={"cell": 1, "dot": 1},
        splits={"train": 2},
        objects_per_image=hd.Spread(0, 1, 2),
        image_sizes={(20, 10): 1, (8, 8): 1},
        box_widths=hd.Spread(7, 8.5, 10),
        box_heights=hd.Spread(7, 8.5, 10),
        crowd=1,
        clipped=1,
        problems=(),
        notes=(),
    )
    assert hd.check(coco(tmp_path / "coco")).splits == {"all": 2}


@pytest.mark.parametrize("rich", [True, False])
def test_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rich: bool,
) -> None:
    find = importlib.util.find_spec
    if rich and find("rich") is None:
        pytest.skip("rich is not installed")
    monkeypatch.setattr(
        cli.importlib.util,
        "find_spec",
        lambda name: None if name == "rich" and not rich else find(name),
    )
    folder = voc(tmp_path / "data")
    put("<name>dot</name>", "<name>[red] dot</name>")(folder)  # no markup of Rich
    assert cli.main(["data", "check", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert ("━" in shown) == rich
    assert shown.startswith(
        f"{folder}: PASCAL VOC, 2 images, 2 annotated objects, 2 of them usable"
    )
    assert re.search(r"\[red\] dot\W+1\W+1\b", shown)
    assert re.search(r"objects per image\W+0\W+1\W+2\b", shown)
    assert "sizes of images: 20 x 10 (1), 8 x 8 (1)\nsplits: train (2)\n" in shown
    assert shown.endswith("\n0 problems, 0 notes\n")

    for k in range(25):
        (folder / "JPEGImages" / f"{k}.png").write_bytes(b"")
    cut(P, 30)(folder)
    assert cli.main(["data", "check", str(folder)]) == 1
    shown = capsys.readouterr().out
    assert f"\nproblem: {folder / P}: the PNG is cut off: its end is missing\n" in shown
    assert shown.endswith("\n5 more notes: --notes shows all\n1 problem, 25 notes\n")
    assert cli.main(["data", "check", str(folder), "--notes"]) == 1
    assert capsys.readouterr().out.count("\nnote: ") == 25

    assert cli.main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith(f"data check: {tmp_path / 'nowhere'} is no folder")
