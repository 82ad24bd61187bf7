"""One image, whatever it is stored as, to RGB: what `transformers.image_utils.load_image` makes of a file.

That is: opened by Pillow, turned as its EXIF data say, converted to RGB by Pillow's rules. So an alpha channel and a
palette's transparency are dropped, grey is repeated, 16-bit grey is cut off at 255, an animation gives its first frame.
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

MOST_PIXELS = 120_000_000  # of one image, 0.5 GB in RGB; phones' cameras give up to 108 million
IN_FLIGHT = MOST_PIXELS  # of all images that the threads of a process have decoded and not yet resized
SHAPES = "(height, width), or (height, width, channels) of 1, 3 or 4 channels"
PIECE = 2**20  # bytes of a file read at once

# Pillow holds an image in blocks. Beyond 32 MB the C library maps each and gives it back at once; of the default, 16
# MB, every thread would keep hundreds of megabytes of a large image. Small images take what they need in either case.
Image.core.set_block_size(2**26)


def read_rgb(source: Any, where: str = "the image") -> np.ndarray:
    """uint8 (height, width, 3).

    Args:
      source: a file's path, an encoded image's bytes, or an array: uint8 (height, width) or (height, width, 1, 3 or 4),
        uint16 (height, width) or (height, width, 1).
      where: the image's name in messages, such as `SET, row N`; a file has its own.

    Raises:
      TlxError: no image, a truncated or damaged one, one of more than 120 million pixels (held against the header
        before anything is decoded), another array.
    """
    with open_rgb(source, where) as image:
        return np.asarray(image)


@contextlib.contextmanager
def open_rgb(source: Any, where: str = "the image") -> Iterator[Image.Image]:
    """As `read_rgb`, as Pillow's image in the mode RGB; it keeps its `info`, where a transparent colour stands.

    While it is open its pixels count as in flight: other threads wait once there are 120 million of them.
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
            f"{where} is {_told(source)}; expected an image: a file's path, bytes or an array of whole numbers."
        )
    with opened:
        if not opened.read(1):
            raise TlxError(f"{where} is empty: 0 bytes where an image was expected.")
        opened.seek(0)
        with contextlib.ExitStack() as stack:
            yield _decoded(opened, where, stack)


def _decoded(source: BinaryIO, where: str, stack: contextlib.ExitStack) -> Image.Image:
    """stack: closes the image, and takes its pixels out of those in flight."""
    try:
        with Image.open(source) as image:
            if image.format == "EPS":  # Pillow would have Ghostscript run the program that such a file is
                raise TlxError(f"{where} is PostScript, a program and no image; convert it, e.g. to PNG.")
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            stack.enter_context(_decoding.of(image.width * image.height))
            image.load()  # the transposition below would leave a damaged image's EXIF data to fail first
            ImageOps.exif_transpose(image, in_place=True)  # which spares a copy
            return image if image.mode == "RGB" else image.convert("RGB")
    except TlxError:
        raise
    except UnidentifiedImageError:
        raise TlxError(f"{where} is no image that Pillow can read; drop it, or convert it, e.g. to PNG.") from None
    except Image.DecompressionBombError:
        raise TlxError(
            f"{where} has more than {MOST_PIXELS:,} pixels, the most that are decoded; scale it down."
        ) from None
    except Exception as error:  # Pillow's readers raise a dozen kinds; each is told in its first line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise TlxError(f"{where} cannot be decoded ({reason}); it is truncated or damaged, so replace it.") from None


class _Budget:
    """An amount that threads take from and give back to; who asks for more than is left waits."""

    def __init__(self, most: int):
        self._left = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, amount: int) -> Iterator[None]:
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
    one = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.dtype not in (np.uint8, np.uint16):
        raise TlxError(f"{where} is {_told(array)}; expected uint8 (or uint16 of one channel), so scale it to 0..255.")
    if one.ndim != 2 and not (one.ndim == 3 and one.shape[-1] in (3, 4)):
        raise TlxError(f"{where} is {_told(array)}; expected {SHAPES}.")
    if not array.size:
        raise TlxError(f"{where} is {_told(array)}, which has no pixels.")
    if array.dtype == np.uint16 and one.ndim != 2:
        raise TlxError(f"{where} is {_told(array)}; of uint16 only one channel is read, so scale it to uint8.")
    return Image.fromarray(np.ascontiguousarray(one))


def _told(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return "missing" if value is None else f"a {type(value).__name__}"


def content(source: Any) -> Iterator[bytes]:
    """What identifies an image, undecoded: a file's or an encoded image's bytes, or an array's with its shape before.

    The same image as a file and as its bytes is the same.
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
    """The SHA-256 of an image's `content`: equal for copies, wherever they lie."""
    found = hashlib.sha256()
    for piece in content(source):
        found.update(piece)
    return found.hexdigest()
