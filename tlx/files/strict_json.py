"""Strict JSON for untrusted files: limits on size and depth, and no duplicate names in an object."""

import json
import os
from collections import Counter
from typing import Any, NoReturn

from tlx.errors import TlxError
from tlx.files.regular import read_bytes

# The description of 100,000 tensors fits; the most memory that JSON of this size can need is a few hundred megabytes.
MOST_BYTES = 8 * 2**20


def read_json(file: str | os.PathLike[str], kind: str, most: int = MOST_BYTES, finite: bool = True) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
      file: the path of a regular file.
      kind: what the file is, for messages, such as "config of a checkpoint".
      most: the largest size in bytes.
      finite: whether NaN and infinity are refused. JSON does not have them, but Python writes them.

    Raises:
      TlxError: as for `read_bytes` and `parse`.
    """
    return parse(read_bytes(file, most), file, kind, most, finite)


def parse(
    text: bytes, file: str | os.PathLike[str], kind: str, most: int = MOST_BYTES, finite: bool = True
) -> dict[str, Any]:
    """Returns the object that a JSON text describes.

    Args:
      text: the JSON in UTF-8.
      file: the file that it comes from, for messages.
      kind: what the file is, for messages.
      most: the largest size in bytes.
      finite: whether NaN and infinity are refused.

    Raises:
      TlxError: the text is not JSON, not UTF-8 or not an object; a name is twice in one object; it holds NaN or
        infinity (unless `finite` is False); it is nested too deeply, has a number of too many digits, or has more than
        `most` bytes.
    """

    def refuse(problem: str) -> NoReturn:
        raise TlxError(f"{file} is not a valid {kind}: {problem}; download it or save it again.")

    if len(text) > most:
        refuse(f"its JSON has {len(text)} bytes, more than {most}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            refuse(f"its JSON says {counts.most_common(1)[0][0]!r:.100} twice")
        return content

    def no_number(text: str) -> float:
        return refuse(f"its JSON holds {text}") if finite else float(text)

    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_number)
    except TlxError:
        raise
    except RecursionError:
        refuse("its JSON is nested too deeply")
    except ValueError as error:  # a JSONDecodeError, a UnicodeDecodeError, or a number of thousands of digits
        refuse(f"what should be JSON is none ({error!s:.200})")
    if not isinstance(content, dict):
        refuse(f"its JSON is a {type(content).__name__} where an object was expected")
    return content
