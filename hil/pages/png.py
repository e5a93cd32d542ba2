"""Small images inside a page: PNG of pixels, as an address that holds its own content."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 96  # of a side; larger images are thinned


def image_address(pixels: NDArray[np.uint8]) -> str:
    """A ``data:`` address of an image, uint8 (H, W, C); unless C is 1 or 3, only the first channel is shown."""
    step = max(1, -(-max(pixels.shape[:2]) // MOST_PIXELS))
    shown = pixels[::step, ::step]
    if shown.shape[2] != 3:
        shown = shown[..., :1]
    height, width, channels = shown.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line says first that it is not filtered
    lines[:, 1:] = shown.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
