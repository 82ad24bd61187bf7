"""Reads one image as RGB, with the same result as `transformers.image_utils.load_image`.

Pillow opens the image, applies the orientation in its EXIF data and converts it to RGB. An alpha channel and a
palette's transparency are therefore dropped, grey is repeated, 16-bit grey is clipped at 255, and an animation gives
its first frame.
"""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tlx.errors import TlxError
from tlx.files.regular import open_regular

MOST_PIXELS = 120_000_000  # the most pixels of one image, 0.5 GB in RGB; phones' cameras have up to 108 million
IN_FLIGHT = MOST_PIXELS  # the most pixels of all images that the threads have decoded and not yet resized
SHAPES = "(height, width), or (height, width, channels) of 1, 3 or 4 channels"
PIECE = 2**20  # bytes of a file that are read at once

# Pillow stores an image in blocks. The C library maps blocks of more than 32 MB and returns them to the system as soon
# as they are freed. With Pillow's default of 16 MB, every thread would keep hundreds of megabytes after a large image.
# Small images need no more memory with this setting.
Image.core.set_block_size(2**26)


def read_rgb(source: Any, where: str = "the image") -> np.ndarray:
    """Reads an image.

    Args:
      source: a file's path, an encoded image's bytes, or an array: uint8 (height, width) or (height, width, 1, 3 or 4),
        uint16 (height, width) or (height, width, 1).
      where: the image's name in messages, such as `SET, row N`; for a file its path is used.

    Returns:
      uint8 (height, width, 3).

    Raises:
      TlxError: the source is not an image, or is truncated or damaged; its header claims more than 120 million pixels;
        an array has another dtype or shape.
    """
    with open_rgb(source, where) as image:
        return np.asarray(image)


@contextlib.contextmanager
def open_rgb(source: Any, where: str = "the image") -> Iterator[Image.Image]:
    """Opens an image as Pillow's image in the mode RGB. Its `info` is kept, which holds a transparent colour.

    While the image is open, its pixels count towards the limit of 120 million decoded pixels in all threads; other
    threads wait until there is room.

    Args:
      source: see `read_rgb`.
      where: see `read_rgb`.

    Yields:
      The image.

    Raises:
      TlxError: as for `read_rgb`.
    """
    if isinstance(source, np.ndarray):
        yield _from_array(source, where).convert("RGB")
        return
    if isinstance(source, bytes):
        opened: BinaryIO = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        opened, where = open_regular(source), os.fspath(source)
    else:
        raise TlxError(
            f"{where} is {_describe(source)}; expected an image: a file's path, bytes or an array of whole numbers."
        )
    with opened:
        if not opened.read(1):
            raise TlxError(f"{where} is empty: 0 bytes where an image was expected.")
        opened.seek(0)
        with contextlib.ExitStack() as stack:
            yield _decoded(opened, where, stack)


def _decoded(source: BinaryIO, where: str, stack: contextlib.ExitStack) -> Image.Image:
    """Decodes an image.

    Args:
      source: the open file.
      where: the image's name in messages.
      stack: when it is closed, the pixels no longer count towards the limit.
    """
    try:
        with Image.open(source) as image:
            if image.format == "EPS":  # an EPS file is a program, which Pillow would run with Ghostscript
                raise TlxError(f"{where} is PostScript, a program and no image; convert it, e.g. to PNG.")
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            stack.enter_context(_decoding.take(image.width * image.height))
            image.load()  # before the EXIF data are read, so that the error for a damaged image is about its pixels
            ImageOps.exif_transpose(image, in_place=True)  # in place, which avoids a copy
            return image if image.mode == "RGB" else image.convert("RGB")
    except TlxError:
        raise
    except UnidentifiedImageError:
        raise TlxError(f"{where} is not an image that Pillow can read; drop it, or convert it, e.g. to PNG.") from None
    except Image.DecompressionBombError:
        raise TlxError(
            f"{where} has more than {MOST_PIXELS:,} pixels, the most that are decoded; scale it down."
        ) from None
    except Exception as error:  # Pillow's readers raise a dozen kinds; the message quotes the first line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise TlxError(f"{where} cannot be decoded ({reason}); it is truncated or damaged, so replace it.") from None


class _Budget:
    """A budget shared by threads; a thread that takes more than is left waits until others return enough.

    Args:
      most: the size of the budget.
    """

    def __init__(self, most: int):
        self._left = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Takes an amount for the duration of the `with` block."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_decoding = _Budget(IN_FLIGHT)


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    found = _describe(array)
    one = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.dtype not in (np.uint8, np.uint16):
        raise TlxError(f"{where} is {found}; expected uint8 (or uint16 of one channel), so scale it to 0..255.")
    if one.ndim != 2 and not (one.ndim == 3 and one.shape[-1] in (3, 4)):
        raise TlxError(f"{where} is {found}; expected {SHAPES}.")
    if not array.size:
        raise TlxError(f"{where} is {found}, which has no pixels.")
    if array.dtype == np.uint16 and one.ndim != 2:
        raise TlxError(f"{where} is {found}; of uint16 only one channel is read, so scale it to uint8.")
    return Image.fromarray(np.ascontiguousarray(one))


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return "missing" if value is None else f"a {type(value).__name__}"


def content(source: Any) -> Iterator[bytes]:
    """Yields the bytes that identify an image: its encoded bytes, or an array's dtype, shape and bytes.

    A file and its bytes give the same content.

    Raises:
      TlxError: the file cannot be read.
    """
    if isinstance(source, np.ndarray):
        yield f"{source.dtype.str} {source.shape}".encode()
        yield np.ascontiguousarray(source).tobytes()
    elif isinstance(source, bytes):
        yield source
    else:
        try:
            with open_regular(source) as file:
                while piece := file.read(PIECE):
                    yield piece
        except OSError as error:
            raise TlxError(f"the image file {str(source)!r} cannot be read: {error.strerror}.") from None


def fingerprint(source: Any) -> str:
    """Returns the SHA-256 of an image's `content`, which is equal for copies of an image."""
    digest = hashlib.sha256()
    for piece in content(source):
        digest.update(piece)
    return digest.hexdigest()
