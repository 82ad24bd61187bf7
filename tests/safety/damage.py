"""Damages to the files of a checkpoint."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], str]  # damages files of a step's folder, and says which


def _file(step: Path, chance: random.Random, nonempty: bool = True) -> Path:
    """A file of a step: of array data in half of the cases, by its size, for a few of them hold most of the arrays.

    Files are ordered by size, because the names of those with array data differ from run to run.
    """
    files = sorted(step.rglob("*"), key=lambda file: (file.stat().st_size, str(file)))
    files = [file for file in files if file.is_file() and (file.stat().st_size or not nonempty)]
    data = [file for file in files if file.parent.name == "d"]
    if data and chance.random() < 0.5:
        return chance.choices(data, [file.stat().st_size for file in data])[0]
    return chance.choice([file for file in files if file not in data])


def _flip(file: Path, chance: random.Random, bits: int) -> str:
    content = bytearray(file.read_bytes())
    places = [chance.randrange(8 * len(content)) for _ in range(bits)]
    for place in set(places):
        content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)
    return f"{file} bits {sorted(set(places))}"


def one_bit(step: Path, chance: random.Random) -> str:
    return _flip(_file(step, chance), chance, 1)


def many_bits(step: Path, chance: random.Random) -> str:
    return _flip(_file(step, chance), chance, 16)


def meta_bit(step: Path, chance: random.Random) -> str:
    files = [file for file in sorted(step.rglob("*")) if file.is_file() and "meta" in file.name.lower()]
    return _flip(chance.choice(files), chance, 1)


def truncated(step: Path, chance: random.Random) -> str:
    file = _file(step, chance)
    length = chance.randrange(file.stat().st_size)
    os.truncate(file, length)
    return f"{file} to {length} bytes"


def emptied(step: Path, chance: random.Random) -> str:
    file = _file(step, chance)
    os.truncate(file, 0)
    return str(file)


def zeroed(step: Path, chance: random.Random) -> str:
    file = _file(step, chance)
    file.write_bytes(bytes(file.stat().st_size))
    return str(file)


def deleted(step: Path, chance: random.Random) -> str:
    file = _file(step, chance, nonempty=False)
    file.unlink()
    return str(file)


def folder_deleted(step: Path, chance: random.Random) -> str:
    folder = chance.choice(sorted(folder for folder in step.rglob("*") if folder.is_dir()))
    shutil.rmtree(folder)
    return str(folder)


def swapped(step: Path, chance: random.Random) -> str:
    """Two files change places, of one step or of two steps of the run."""
    one = _file(step, chance)
    alike = [f for f in sorted(step.parent.rglob("*")) if f.is_file() and f.parent.name == one.parent.name]
    different = [file for file in alike if file.read_bytes() != one.read_bytes()]
    if not different:
        return deleted(step, chance)
    other = chance.choice(different)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{one} and {other}"


DAMAGES: dict[str, Damage] = {
    "one bit flipped": one_bit, "16 bits flipped": many_bits, "one bit of metadata flipped": meta_bit,
    "a file cut": truncated, "a file emptied": emptied, "a file zeroed": zeroed, "a file deleted": deleted,
    "a folder deleted": folder_deleted, "two files swapped": swapped,
}  # fmt: skip
