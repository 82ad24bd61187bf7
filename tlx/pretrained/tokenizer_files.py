"""The files that a tokenizer is made from: which they are, whether they are safe to open, and copies of them.

Their names are asked of the tokenizer's class (`vocab_files_names`), which the folder's `tokenizer_config.json` or
`config.json` names, or else the model's family; a list of names would leave out what the next class calls its own.
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
WHOLE = re.compile(r"tokenizer(\.\d[\w.-]*)?\.json")  # one for all versions of transformers, or from a version on
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
USUAL = (TOKENIZER_JSON, *SETTINGS, "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
OF_IMAGES = ("preprocessor_config.json", "processor_config.json")
# Bounds on tokenizer.json, each above what the largest published tokenizers have (XLM-RoBERTa: 250,002 tokens, 17 MB)
MOST_JSON_BYTES = 48 * 2**20
MOST_FILE_BYTES = 256 * 2**20
MOST_PIECES = 256  # steps of normalizing and splitting, and pieces of a template
MOST_WORD = 1000  # characters of a word that WordPiece looks up, in time of the third power; published: 100
MOST_GROWTH = 64.0  # how many times longer all replacements together may make a text


def file_names(folder: Path) -> tuple[str, ...]:
    """The names that the files of this folder's tokenizer, or image processor, can have; none of them need be there."""
    if any((folder / name).is_file() for name in OF_IMAGES):
        return (*OF_IMAGES, *USUAL)
    return tuple(dict.fromkeys((*OF_IMAGES, *USUAL, *_names_of_class(folder))))


def copy_files(source: Path, destination: Path) -> None:
    """Copies what the folder's tokenizer or image processor is made from."""
    for name in file_names(source):
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)


def check_files(folder: Path) -> None:
    """Refuses files of a tokenizer that are unsafe to open: no regular files, stand-ins, too large, or too costly.

    Raises:
      TlxError: a link out of the folder, a pipe or device, a git-lfs pointer, a file beyond the bounds above, or a
        `tokenizer.json` that is no JSON or whose steps would make texts grow without bound.
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
    """Refuses a folder without the vocabulary of the tokenizer that transformers made from it, out of nothing."""
    names = dict(type(tokenizer).vocab_files_names)
    whole = names.pop("tokenizer_file", None) or TOKENIZER_JSON
    if (tokenizer.is_fast and (folder / whole).is_file()) or not (names or tokenizer.is_fast):
        return  # the latter: a tokenizer of bytes or characters, which has no files
    wanted = list(names.values())
    either = names.keys() == {"vocab_file", "spm_file"}  # words, or pieces of SentencePiece
    if either and any((folder / name).is_file() for name in wanted):
        return
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing or not wanted:
        kind = type(tokenizer).__name__
        ways = [whole] * tokenizer.is_fast + [" and ".join(wanted)] * bool(wanted)
        raise TlxError(
            f"{folder} holds no vocabulary: a {kind} is made from {' or from '.join(ways)}, and "
            f"{listed(missing or [whole])} is not there; copy the tokenizer's files from the checkpoint."
        )


def check_readable(folder: Path) -> None:
    """Refuses a tokenizer that is in a file of SentencePiece alone, where the package that reads it is missing.

    transformers takes such a file for another format then, and asks for that format's package.
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
    found = auto.tokenizer_class_from_name(kind) if isinstance(kind, str) else None
    versions = config.get("fast_tokenizer_files", [])  # transformers opens one of them in place of tokenizer.json
    if not isinstance(versions, list) or not all(isinstance(name, str) and WHOLE.fullmatch(name) for name in versions):
        raise TlxError(
            f"{folder}: fast_tokenizer_files of tokenizer_config.json is {versions!r:.80}; expected a list of names "
            "such as tokenizer.json and tokenizer.4.0.0.json."
        )
    return (*versions, *getattr(found, "vocab_files_names", {}).values())


def _check_json(file: Path, content: dict[str, Any]) -> None:
    """Whether the steps that a `tokenizer.json` describes are few and keep texts near their length."""

    def refuse(problem: str) -> None:
        raise TlxError(f"{file} describes a tokenizer that could use up time or memory: {problem}; get it anew.")

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
    """A step of a tokenizer, or those of a sequence, at any depth."""
    open_parts = [part]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            yield part
            for name in ("normalizers", "pretokenizers", "decoders", "processors"):
                open_parts += _list(part.get(name))


def _growth(step: dict[str, Any]) -> float:
    """How many times longer a step can make a text, about."""
    if step.get("type") == "Prepend":
        return 1.0 + len(str(step.get("prepend", ""))) / 1024  # once a text
    if step.get("type") != "Replace":
        return 1.0
    pattern = step.get("pattern")
    shortest = len(str(pattern["String"])) if isinstance(pattern, dict) and pattern.get("String") else 1
    return max(1.0, len(str(step.get("content", ""))) / shortest)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
