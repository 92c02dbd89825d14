"""Images: their sizes, from the first bytes of the file, and their pixels, by Pillow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from hungarian_data.dataset import DataError, Example

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_MOST_PIXELS = 89_478_485  # Pillow warns of more, and decodes no more than twice as many

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# Start-of-frame markers, which hold the size: 0xC0 to 0xCF but for three with other meanings.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA  # what follows is data


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image, which has to be whole; nothing is decoded.

    Raises:
        DataError: It is empty, cut off, no image, or has more pixels than Pillow decodes; the
            message does not name the file.
        ImportError: It is neither PNG nor JPEG, and Pillow is not installed.
    """
    width, height = _size(path)
    # Who knows the images may change the limit of Pillow, or take it away.
    limit = getattr(sys.modules.get("PIL.Image"), "MAX_IMAGE_PIXELS", _MOST_PIXELS)
    if limit is not None and width * height > 2 * limit:
        raise DataError(f"{width} x {height} are more pixels than Pillow decodes, {2 * limit}")
    return width, height


def _size(path: Path) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            start = file.read(24)
            if not start:
                raise DataError("the file is empty; expected an image")
            if start.startswith(_PNG):
                return _png_size(start, file)
            if start.startswith(_JPEG):
                return _jpeg_size(file)
        pillow = _pillow(f"the size of {path}")
        try:
            with pillow.open(path) as image:
                width, height = image.size
                return width, height
        except pillow.DecompressionBombError as error:
            raise DataError(f"has more pixels than Pillow decodes: {error}") from error
    except OSError as error:  # Pillow's own are such, too
        why = error.strerror or "neither a PNG, a JPEG nor another that Pillow knows"
        raise DataError(f"cannot be read as an image: {why}") from error


def pixels(example: Example, height: int, width: int) -> np.ndarray:
    """Return the pixels of an image, resized.

    Relative boxes stay what they are, as the whole image is squeezed or stretched. Gray images
    get three equal channels, transparency is left out, and 16 bits are cut to 8.

    Args:
        example: An example of a `Dataset`.
        height: The height to resize to, in pixels.
        width: The width to resize to.

    Returns:
        `[height, width, 3]` uint8, red, green and blue; bilinear, and averaged where the image
        shrinks.

    Raises:
        ImportError: Pillow is not installed.
        DataError: The file cannot be decoded.

    Example:
        >>> import tempfile, hungarian_data
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "red.png"
        >>> Image.new("RGB", (20, 10), "red").save(path)
        >>> none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
        >>> example = hungarian_data.Example(path, 20, 10, *none)
        >>> hungarian_data.pixels(example, 1, 2).tolist()
        [[[255, 0, 0], [255, 0, 0]]]
    """
    pillow = _pillow("decoding an image")
    try:
        with pillow.open(example.path) as image:
            if image.mode.startswith("I"):  # "RGB" would cut off what exceeds 255
                image = pillow.fromarray(_to_8_bits(example.path, np.asarray(image)))
            elif image.mode == "F":
                raise DataError(
                    f"{example.path} has pixels of floating point, of no known range; expected "
                    "integers of 8 or 16 bits: convert it"
                )
            elif image.mode == "P":  # whose transparency has its place in this mode alone
                image = image.convert("RGBA")
            small = image.convert("RGB").resize((width, height), pillow.Resampling.BILINEAR)
            return np.asarray(small)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        # Pillow's: PNG's broken chunks are a SyntaxError, and long texts in it a ValueError.
        raise DataError(
            f"{example.path} cannot be decoded: {error}. Leave it out, or fetch it again"
        ) from error


def _to_8_bits(path: Path, gray: np.ndarray) -> np.ndarray:
    """Return the upper half of 16 bits."""
    if gray.min() < 0 or gray.max() > 0xFFFF:
        raise DataError(
            f"{path} has pixels from {gray.min()} to {gray.max()}; expected integers of 8 or 16 "
            "bits: convert it"
        )
    return (gray >> 8).astype(np.uint8)


def _pillow(what: str) -> ModuleType:
    """Import Pillow's module of images."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f'{what} needs Pillow, which is not installed: pip install "hungarian-core[data]"'
        ) from error
    return Image


def _png_size(start: bytes, file: BinaryIO) -> tuple[int, int]:
    """Return the size that the header says, which is the first chunk."""
    size = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    if len(start) < 24 or start[12:16] != b"IHDR" or 0 in size:
        raise DataError("the header of the PNG is broken")
    if not _has(file, _PNG_END, len(start)):
        raise DataError("the PNG is cut off: its end is missing")
    return size


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Return the size that the frame says, which is one of the segments before the data."""
    file.seek(2)
    size = None
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == 0xFF:  # any number of these may fill up before a marker
            file.seek(-3, os.SEEK_CUR)
        elif marker == _SCAN:
            # Earlier ends are those of thumbnails, which lie in segments.
            if not _has(file, _JPEG_END, file.tell()):
                raise DataError("the JPEG is cut off: its end is missing")
            if size is not None and 0 not in size:
                return size
            break
        elif marker in _FRAMES and len(frame := file.read(5)) == 5:
            size = int.from_bytes(frame[3:], "big"), int.from_bytes(frame[1:3], "big")
            file.seek(length - 7, os.SEEK_CUR)
        else:
            file.seek(length - 2, os.SEEK_CUR)
    raise DataError("the JPEG is cut off or broken: its header tells no size")


def _has(file: BinaryIO, marker: bytes, start: int) -> bool:
    """Tell whether a file has a marker behind `start`, looking at its last kilobytes first."""
    near = max(start, file.seek(0, os.SEEK_END) - 4096)
    file.seek(near)
    if marker in file.read():
        return True
    file.seek(start)
    return marker in file.read()
