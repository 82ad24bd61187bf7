"""The files of a tokenizer: their names, checks that they are safe to open, and copies of them.

The names come from the tokenizer's class (`vocab_files_names`). The folder's `tokenizer_config.json` or `config.json`
names the class, or else the model's family decides. A fixed list of names would miss the files of new classes.
"""

import importlib.util
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlx.errors import TlxError, listed
from tlx.files.regular import open_regular, read_bytes
from tlx.files.strict_json import MOST_BYTES, parse, read_json
from tlx.pretrained.formats.safe import inside

TOKENIZER_JSON = "tokenizer.json"
WHOLE = re.compile(r"tokenizer(\.\d[\w.-]*)?\.json")  # with a number: for transformers from that version on
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
USUAL = (TOKENIZER_JSON, *SETTINGS, "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
OF_IMAGES = ("preprocessor_config.json", "processor_config.json")
# Limits on tokenizer.json, each larger than in any published tokenizer (XLM-RoBERTa has 250,002 tokens and 17 MB)
MOST_JSON_BYTES = 48 * 2**20
MOST_FILE_BYTES = 256 * 2**20
MOST_PIECES = 256  # the most steps of normalizing and splitting, and the most pieces of a template
MOST_WORD = 1000  # the most characters of a word for WordPiece, whose time is cubic in them; published tokenizers: 100
MOST_GROWTH = 64.0  # the largest factor by which all replacements together may lengthen a text


def file_names(folder: Path) -> tuple[str, ...]:
    """Returns the names that the files of a folder's tokenizer or image processor can have.

    Not all of these files need to exist.
    """
    if any((folder / name).is_file() for name in OF_IMAGES):
        return (*OF_IMAGES, *USUAL)
    return tuple(dict.fromkeys((*OF_IMAGES, *USUAL, *_names_of_class(folder))))


def copy_files(source: Path, destination: Path) -> None:
    """Copies the files of a folder's tokenizer or image processor to another folder."""
    for name in file_names(source):
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)


def check_files(folder: Path) -> None:
    """Checks that the files of a tokenizer are safe to open.

    Raises:
      TlxError: a file is a link out of the folder, a pipe, a device or a git-lfs pointer, or exceeds a limit above;
        `tokenizer.json` is not JSON, or its steps could lengthen texts too much.
    """
    for name in file_names(folder):
        file = inside(folder, name)
        if not file.exists() and not file.is_symlink():
            continue
        if WHOLE.fullmatch(name):
            _check_json(file, read_json(file, "tokenizer", MOST_JSON_BYTES))
        elif name.endswith(".json") and name != "vocab.json":
            parse(read_bytes(file, MOST_BYTES), file, "part of a tokenizer")
        else:
            with open_regular(file) as opened:
                if (size := opened.seek(0, 2)) > MOST_FILE_BYTES:
                    raise TlxError(f"{file} has {size:,} bytes; the largest that is opened has {MOST_FILE_BYTES:,}.")


def check_complete(folder: Path, tokenizer: Any) -> None:
    """Checks that a folder holds a vocabulary; without one, transformers makes an empty tokenizer.

    Args:
      folder: the checkpoint's folder.
      tokenizer: the tokenizer that transformers made from it.

    Raises:
      TlxError: files of the vocabulary are missing.
    """
    names = dict(type(tokenizer).vocab_files_names)
    whole = names.pop("tokenizer_file", None) or TOKENIZER_JSON
    if (tokenizer.is_fast and (folder / whole).is_file()) or not (names or tokenizer.is_fast):
        return  # in the second case it is a tokenizer of bytes or characters, which has no files
    required = list(names.values())
    alternatives = names.keys() == {"vocab_file", "spm_file"}  # a list of words, or a SentencePiece model
    if alternatives and any((folder / name).is_file() for name in required):
        return
    missing = [name for name in required if not (folder / name).is_file()]
    if missing or not required:
        kind = type(tokenizer).__name__
        ways = [whole] * tokenizer.is_fast + [" and ".join(required)] * bool(required)
        raise TlxError(
            f"{folder} holds no vocabulary: a {kind} is made from {' or from '.join(ways)}, and "
            f"{listed(missing or [whole])} is not there; copy the tokenizer's files from the checkpoint."
        )


def check_readable(folder: Path) -> None:
    """Checks that the sentencepiece package is installed if a tokenizer has only a SentencePiece model.

    Without the package, transformers takes the file for another format and asks for that format's package.

    Raises:
      TlxError: the package is missing.
    """
    models = [name for name in file_names(folder) if name.endswith(".model") and (folder / name).is_file()]
    if models and not (folder / TOKENIZER_JSON).is_file() and importlib.util.find_spec("sentencepiece") is None:
        raise TlxError(
            f"{folder}: {models[0]} is read with the package sentencepiece, which is not installed: "
            f"pip install sentencepiece, or copy the checkpoint's {TOKENIZER_JSON}."
        ) from None


def _names_of_class(folder: Path) -> tuple[str, ...]:
    from transformers.models.auto import tokenization_auto as auto

    config: dict[str, Any] = {}
    for name in ("config.json", "tokenizer_config.json"):
        file = inside(folder, name)
        if file.exists():
            config |= {key: value for key, value in read_json(file, "config").items() if value is not None}
    kind: Any = config.get("tokenizer_class") or auto.TOKENIZER_MAPPING_NAMES.get(str(config.get("model_type")))
    tokenizer_class = auto.tokenizer_class_from_name(kind) if isinstance(kind, str) else None
    versions = config.get("fast_tokenizer_files", [])  # transformers opens one of them in place of tokenizer.json
    if not isinstance(versions, list) or not all(isinstance(name, str) and WHOLE.fullmatch(name) for name in versions):
        raise TlxError(
            f"{folder}: fast_tokenizer_files of tokenizer_config.json is {versions!r:.80}; expected a list of names "
            "such as tokenizer.json and tokenizer.4.0.0.json."
        )
    return (*versions, *getattr(tokenizer_class, "vocab_files_names", {}).values())


def _check_json(file: Path, content: dict[str, Any]) -> None:
    """Checks that the steps of a `tokenizer.json` are few and do not lengthen texts too much."""

    def refuse(problem: str) -> None:
        raise TlxError(f"{file} describes a tokenizer that could use up time or memory: {problem}; download it again.")

    steps = [step for part in ("normalizer", "pre_tokenizer", "decoder") for step in _steps(content.get(part))]
    if len(steps) > MOST_PIECES:
        refuse(f"{len(steps):,} steps of normalizing and splitting, more than {MOST_PIECES}")
    growth = math.prod(_growth(step) for step in _steps(content.get("normalizer")))
    if growth > MOST_GROWTH:
        refuse(f"its replacements can make a text {growth:.3g} times longer, more than {MOST_GROWTH:.0f}")
    model = content.get("model")
    word = model.get("max_input_chars_per_word") if isinstance(model, dict) else None
    if isinstance(word, (int, float)) and word > MOST_WORD:
        refuse(f"words of {word:,} characters (max_input_chars_per_word), more than {MOST_WORD:,}")
    for step in _steps(content.get("post_processor")):
        pieces = [*_list(step.get("single")), *_list(step.get("pair"))]
        tokens = step.get("special_tokens")
        ids = sum(len(_list(token.get("ids"))) for token in (tokens.values() if isinstance(tokens, dict) else ()))
        if max(len(pieces), ids) > MOST_PIECES:
            refuse(f"a template of {max(len(pieces), ids):,} pieces, more than {MOST_PIECES}")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Yields the steps of a part of a tokenizer, also those of nested sequences."""
    open_parts = [part]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            yield part
            for name in ("normalizers", "pretokenizers", "decoders", "processors"):
                open_parts += _list(part.get(name))


def _growth(step: dict[str, Any]) -> float:
    """Returns the approximate factor by which a step can lengthen a text."""
    if step.get("type") == "Prepend":
        return 1.0 + len(str(step.get("prepend", ""))) / 1024  # once per text
    if step.get("type") != "Replace":
        return 1.0
    pattern = step.get("pattern")
    shortest = len(str(pattern["String"])) if isinstance(pattern, dict) and pattern.get("String") else 1
    return max(1.0, len(str(step.get("content", ""))) / shortest)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
