"""Locates the members of an uncompressed zip archive: where their bytes begin and how many there are.

Format: PKWARE's APPNOTE, sections 4.3 and 4.5.3 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT). Python's
zipfile is not used, because it reads members through buffers and checks too little for untrusted files.
"""

import itertools
import struct
from pathlib import Path

from tlx.pretrained.formats.stored import refuse

KIND = "zip archive"
MOST_MEMBERS = 200_000
END = struct.Struct("<4sHHHHIIH")  # end of central directory
END_64 = struct.Struct("<4sQHHIIQQQQ")  # end of central directory of an archive of more than 4 GB
LOCATOR_64 = struct.Struct("<4sIQI")
ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")  # entry of the central directory
LOCAL = struct.Struct("<4sHHHHHIIIHH")  # local header, which precedes each member's bytes
FULL = 0xFFFFFFFF  # the value of a 32-bit field whose actual value is in the zip64 field


def zip_members(data: memoryview, file: Path) -> dict[str, tuple[int, int]]:
    """Locates the members of an archive.

    Args:
      data: the bytes of the archive.
      file: the file, for messages.

    Returns:
      The offset and the length in bytes of each member, by name.

    Raises:
      TlxError: the archive is truncated or inconsistent, or a member is compressed or encrypted.
    """
    at, end, count = _directory(data, file)
    if count > MOST_MEMBERS:
        refuse(file, KIND, f"it has {count} members, more than {MOST_MEMBERS}")
    members: dict[str, tuple[int, int]] = {}
    spans = []
    directory = at
    for _ in range(count):
        name, header, offset, size, at = _member(data, at, end, directory, file)
        if name in members:
            refuse(file, KIND, f"it holds {name!r:.100} twice")
        members[name] = (offset, size)
        spans.append((header, offset + size))
    if at != end:
        refuse(file, KIND, f"its directory has {end - at} bytes more than its {count} members take")
    spans.sort()
    if any(following[0] < span[1] for span, following in itertools.pairwise(spans)):
        refuse(file, KIND, "its members overlap")
    return members


def _directory(data: memoryview, file: Path) -> tuple[int, int, int]:
    """Returns where the central directory begins and ends, and its number of entries."""
    at = len(data) - END.size
    if at < 0 or bytes(data[at : at + 4]) != b"PK\5\6":
        refuse(file, KIND, "its end is missing, so it was cut off or something was added")
    _, disk, first_disk, here, count, size, begin, comment = END.unpack_from(data, at)
    locator = at - LOCATOR_64.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\6\7":
        at = locator - END_64.size
        if at < 0 or LOCATOR_64.unpack_from(data, locator)[2] != at or bytes(data[at : at + 4]) != b"PK\6\6":
            refuse(file, KIND, "its zip64 end stands elsewhere than it says")
        _, _, _, _, disk, first_disk, here, count, size, begin = END_64.unpack_from(data, at)
    if disk or first_disk or here != count or comment:
        refuse(file, KIND, "it is one of several parts, or has a comment")
    if begin + size != at:
        refuse(file, KIND, f"its directory should end at {at}, but says {begin + size}")
    return begin, at, count


def _member(data: memoryview, at: int, end: int, directory: int, file: Path) -> tuple[str, int, int, int, int]:
    """Reads the entry of the central directory at `at`.

    Returns:
      The member's name, the position of its local header, the offset and the number of its bytes, and the position of
      the next entry.
    """
    if at + ENTRY.size > end or bytes(data[at : at + 4]) != b"PK\1\2":
        refuse(file, KIND, "its directory is broken")
    fields = ENTRY.unpack_from(data, at)
    flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
    name_length, extra_length, comment_length, disk, header = *fields[10:14], fields[16]
    at += ENTRY.size
    raw = bytes(data[at : at + name_length])
    extra = bytes(data[at + name_length : at + name_length + extra_length])
    at += name_length + extra_length + comment_length
    name = raw.decode("utf-8", "replace")
    if at > end:
        refuse(file, KIND, "its directory is broken")
    size, packed, header = _wide(extra, size, packed, header)
    if method or flags & 1:
        refuse(file, KIND, f"{name!r:.100} is compressed or encrypted, and PyTorch stores as it is")
    if packed != size or disk or header + LOCAL.size > directory:
        refuse(file, KIND, f"its directory lies about {name!r:.100}")
    signature, _, flags_here, method_here, *_, packed_here, size_here, name_here, extra_here = LOCAL.unpack_from(
        data, header
    )
    offset = header + LOCAL.size + name_here + extra_here
    same = (signature, method_here, flags_here & 1) == (b"PK\3\4", 0, 0)
    same &= bytes(data[header + LOCAL.size : header + LOCAL.size + name_here]) == raw
    # If bit 3 of the flags is set, the sizes follow the member's bytes; in zip64 archives they are in a separate field.
    same &= all(value in (size, FULL) or (value == 0 and flags_here & 8) for value in (packed_here, size_here))
    if not same or offset + size > directory:
        refuse(file, KIND, f"its directory and its member {name!r:.100} disagree")
    return name, header, offset, size, at


def _wide(extra: bytes, *values: int) -> list[int]:
    """Returns the values; those that are `FULL` are replaced by the 64-bit values of the zip64 field in order."""
    wide: list[int] = []
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            field = extra[4 : 4 + length]
            wide = [number for (number,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
        extra = extra[4 + length :]
    return [wide.pop(0) if value == FULL and wide else value for value in values]
