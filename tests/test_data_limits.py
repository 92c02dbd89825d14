"""What no file should have and some have: it is told, as any other problem, or read as it is."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import hungarian_data as hd
from hungarian_core import cli

pytest.importorskip("PIL")
from PIL import Image


def cells(folder: Path, category: str = "cell", **values: object) -> Path:
    """Write one object on one image, in the layout of COCO."""
    Image.new("L", (20, 10)).save(folder / "a.png")
    about = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": category}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 2, 10, 4], **values}],
    }
    (folder / "all.json").write_text(json.dumps(about))
    return folder


def points(folder: Path, *objects: str) -> Path:
    """Write an image of 20 x 10 pixels in the layout of PASCAL VOC, and its objects."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("L", (20, 10)).save(folder / "JPEGImages" / "a.png")
    found = "".join(f"<object><name>cell</name>{x}</object>" for x in objects)
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{found}</annotation>")
    return folder


BOX = "<bndbox><xmin>6</xmin><ymin>3</ymin><xmax>15</xmax><ymax>6</ymax></bndbox>"


def test_paths_that_are_too_long_are_no_folder(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 5000, "a\0b"):
        with pytest.raises(hd.DataError, match=r"is no folder and no \.json file"):
            hd.read(tmp_path / name)
        with pytest.raises(hd.DataError, match=r"is no folder and no \.json file"):
            hd.check(tmp_path / name)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(hd.DataError, match=r"cannot be read: Permission denied"):
        hd.read(tmp_path)


def test_a_split_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = points(tmp_path, BOX)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n", "utf-8-sig")
    assert len(hd.read(folder, split="train").examples) == 1
    assert hd.check(folder).problems == ()


def test_a_box_of_a_pixel_in_voc(tmp_path: Path) -> None:
    """From `xmin - 1` to `xmax`, the last pixel included."""
    pixel = "<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>11</xmax><ymax>6</ymax></bndbox>"
    folder = points(tmp_path, pixel)
    np.testing.assert_allclose(
        hd.read(folder).examples[0].boxes, [[10.5 / 20, 5.5 / 10, 1 / 20, 1 / 10]], rtol=1e-6
    )


def test_flags_in_words(tmp_path: Path) -> None:
    written = ("true", "false", "1", "0", "", " True ")
    folder = points(tmp_path / "voc", *(f"<difficult>{x}</difficult>{BOX}" for x in written), BOX)
    expected = [True, False, True, False, False, True, False]
    assert hd.read(folder).examples[0].crowd.tolist() == expected
    for k, (given, expected_crowd) in enumerate([(1, True), (True, True), (None, False)]):
        (tmp_path / f"{k}").mkdir()
        found = hd.read(cells(tmp_path / f"{k}", iscrowd=given))
        assert found.examples[0].crowd.tolist() == [expected_crowd]


def test_an_image_with_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told from its header, for all formats; the limit is that of Pillow."""
    folder = cells(tmp_path)
    example = hd.read(folder).examples[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)  # of 200, which Pillow refuses
    for suffix in ("png", "jpg", "bmp"):
        path = tmp_path / f"b.{suffix}"
        Image.new("L", (20, 10)).save(path)
        about = (folder / "all.json").read_text().replace("a.png", path.name)
        (folder / "all.json").write_text(about)
        (problem, _) = hd.check(folder).problems
        assert problem.path == path
        assert "more pixels than Pillow decodes" in problem.what
        (folder / "all.json").write_text(about.replace(path.name, "a.png"))
        with pytest.raises(hd.DataError, match="cannot be decoded"):
            hd.pixels(example._replace(path=path), 4, 4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # who takes it away may read them
    assert hd.check(folder).problems == ()


def test_the_header_of_a_bomb(tmp_path: Path) -> None:
    folder = cells(tmp_path)

    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR" + struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND"))
    with pytest.raises(hd.DataError, match="200000 x 200000 are more pixels than Pillow decodes"):
        hd.read(folder)


def test_pixels_of_floating_point_are_refused(tmp_path: Path) -> None:
    """They would be black; and so would integers of 32 bits be cut to nothing."""
    example = hd.read(cells(tmp_path)).examples[0]
    path = tmp_path / "b.tiff"
    for array, told in (
        (np.full((10, 20), 0.5, np.float32), "pixels of floating point"),
        (np.full((10, 20), 70_000, np.int32), "pixels from 70000 to 70000; expected integers of 8"),
    ):
        Image.fromarray(array).save(path)
        with pytest.raises(hd.DataError, match=told):
            hd.pixels(example._replace(path=path), 4, 4)


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency(tmp_path: Path) -> None:
    example = hd.read(cells(tmp_path)).examples[0]
    image = Image.new("P", (20, 10), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "b.png", transparency=b"\x00\x80")
    found = hd.pixels(example._replace(path=tmp_path / "b.png"), 1, 1)
    assert found.tolist() == [[[200, 100, 50]]]


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("cp1252", "\u732b", r"\u732b"),
        ("ascii", "\xe4", r"\xe4"),
        ("utf-8", "\ud800x", r"\ud800x"),
        ("utf-8", "\u732b", "\u732b"),
    ],
)
def test_names_that_the_terminal_cannot_write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rich: bool,
    encoding: str,
    name: str,
    shown: str,
) -> None:
    find = importlib.util.find_spec
    if rich and find("rich") is None:
        pytest.skip("rich is not installed")
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda x: None if x == "rich" and not rich else find(x)
    )
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["data", "check", str(cells(tmp_path, name))]) == 0
    stream.flush()
    assert shown in written.getvalue().decode(encoding)
    assert stream.errors == "strict"
