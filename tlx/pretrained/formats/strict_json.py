"""JSON from a file that may be hostile: bounded, and no name said twice."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.pretrained.formats.stored import refuse

# 100,000 tensors fit; what JSON of this size can be made to hold in memory stays below some hundred megabytes.
MOST_BYTES = 8 * 2**20


def parse(text: bytes, file: Path, kind: str) -> dict[str, Any]:
    """The object that a JSON text describes.

    Raises:
      TlxError: no JSON, a name that stands twice in one object, NaN, no object, or more than `MOST_BYTES`.
    """
    if len(text) > MOST_BYTES:
        refuse(file, kind, f"its JSON has {len(text)} bytes, more than {MOST_BYTES}")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            refuse(file, kind, f"its JSON says {counts.most_common(1)[0][0]!r:.100} twice")
        return found

    def no_number(text: str) -> None:
        refuse(file, kind, f"its JSON holds {text}")

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=no_number)
    except TlxError:
        raise
    except RecursionError:
        refuse(file, kind, "its JSON is nested too deeply")
    except ValueError as error:
        refuse(file, kind, f"what should be JSON is none ({error!s:.200})")
    if not isinstance(found, dict):
        refuse(file, kind, f"its JSON is a {type(found).__name__} where an object was expected")
    return found
