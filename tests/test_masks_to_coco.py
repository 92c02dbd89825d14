"""Boxes around masks: the example that makes a file of COCO of a folder of masks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_data

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    return importlib.import_module("masks_to_coco")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 20 x 10 pixels: one with two objects and an empty mask, one with none."""
    for name, objects in (("a", 3), ("b", 0)):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(tmp_path / name / "images" / "of.png")
        for k in range(objects):
            mask = np.zeros((10, 20), np.uint8)
            if k < 2:
                mask[2 : 5 + k, 7 * k : 7 * k + 4] = 255
                mask[3, 7 * k] = 0  # the box is around it all the same
            Image.fromarray(mask).save(tmp_path / name / "masks" / f"{k}.png")
    return tmp_path


def test_boxes_are_those_around_the_masks(
    example: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main([str(folder), "--category", "nucleus"])
    assert "2 images, 2 objects; 1 masks were empty" in capsys.readouterr().out
    classes, examples = hungarian_data.read(folder)
    assert classes == ("nucleus",)
    assert [x.path.parent.parent.name for x in examples] == ["a", "b"]
    pixels = [[2, 3.5, 4, 3], [9, 4, 4, 4]]  # centre, width and height
    np.testing.assert_allclose(examples[0].boxes * [20, 10, 20, 10], pixels, rtol=1e-6)
    assert len(examples[1].boxes) == 0
    found = example.annotated(folder / "a")
    np.testing.assert_array_equal(found.areas, [11, 15])
    assert hungarian_data.check(folder).problems == ()


def test_what_is_laid_out_otherwise_is_told_in_a_line(example: Any, folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"^masks_to_coco\.py: there is no folder .*nowhere$"):
        example.main([str(folder / "nowhere")])
    with pytest.raises(SystemExit, match="has no folders; expected one for each image"):
        example.main([str(folder / "a" / "images")])
    with pytest.raises(SystemExit, match=r"there is no folder .*images"):
        example.main([str(folder / "a")])
    Image.new("L", (10, 20)).save(folder / "b" / "masks" / "turned.png")
    with pytest.raises(SystemExit, match=r"turned\.png is 10 x 20, and its image 20 x 10"):
        example.main([str(folder)])
    Image.new("RGB", (20, 10)).save(folder / "a" / "images" / "again.png")
    with pytest.raises(SystemExit, match="has 2 images; expected one"):
        example.main([str(folder)])
    (folder / "a" / "images" / "again.png").write_bytes(b"\x89PNG")
    (folder / "a" / "images" / "of.png").unlink()
    with pytest.raises(SystemExit, match="cannot identify image file"):
        example.main([str(folder)])
