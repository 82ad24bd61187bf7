"""Converts between the two ways to write a config and its overrides on a command line.

Scripts take flags, `--config=FILE.py --config.FIELD=VALUE`; commands take words, `FILE.py FIELD=VALUE`.
"""

import ast
import re
from collections.abc import Sequence
from typing import Any


def as_words(argv: Sequence[str]) -> list[str]:
    """Converts flags to words, which are put at the end. `--workdir` is removed; words stay as they are.

    Args:
      argv: the command line without the program's name.
    """
    others, files, fields = _sorted(argv)
    if "--workdir" in others:
        del others[others.index("--workdir") : others.index("--workdir") + 2]
    return [*(word for word in others if not word.startswith("--workdir=")), *files, *fields]


def as_flags(argv: Sequence[str]) -> list[str]:
    """Converts words to flags, which are put first. Flags stay as they are.

    Args:
      argv: the command line without the program's name.
    """
    others, files, fields = _sorted(argv)
    return [*(f"--config={file}" for file in files), *(f"--config.{field}" for field in fields), *others]


def _sorted(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Returns the words that do not concern a config, the config files, and the `FIELD=VALUE`s, each in order."""
    others: list[str] = []
    files: list[str] = []
    fields: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        flag = re.fullmatch(r"--?config(?:\.([\w.]+))?(=.*)?", word, re.DOTALL)
        no = re.fullmatch(r"--?noconfig\.([\w.]+)", word)
        if flag:
            value_follows = flag[2] is None and words and not words[0].startswith("--")
            value = words.pop(0) if value_follows else (flag[2] or "=")[1:]
            switch = flag[2] is None and not value_follows  # --config.FIELD without a value means true
            fields += [f"{flag[1]}={'true' if switch else value}"] if flag[1] else []
            files += [] if flag[1] else [value]
        elif no:
            fields.append(f"{no[1]}=false")
        elif re.match(r"[A-Za-z]\w*(\.\w+)*=", word):
            fields.append(word)
        elif re.fullmatch(r"[^-].*\.py(:.*)?", word) and not (others and re.fullmatch(r"--\w+", others[-1])):
            files.append(word)
        else:
            others.append(word)
    return others, files, fields


def without_none(words: Sequence[str], configs: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Removes each `--FLAG.FIELD=None` of a config.

    Args:
      words: the command line without the program's name.
      configs: names of the flags that are configs.

    Returns:
      The other words, and `(flag, field)` of each field set to None that no later word sets to another value.
    """
    empty: dict[tuple[str, str], None] = {}
    kept = []
    for word in words:
        override = re.fullmatch(rf"--?({'|'.join(configs) or '$^'})\.([\w.]+)=(.*)", word, re.DOTALL)
        if override and override[3] == "None":
            empty[override[1], override[2]] = None
        else:
            kept.append(word)
            if override:
                empty.pop((override[1], override[2]), None)
    return kept, list(empty)


def without_method_fields(words: Sequence[str], configs: Sequence[str]) -> tuple[list[str], list[tuple[str, str, Any]]]:
    """Removes each `--FLAG.method.FIELD=VALUE` of a config, whose fields depend on the method that is named.

    Args:
      words: the command line without the program's name.
      configs: names of the flags that are configs.

    Returns:
      The other words, and `(flag, field, value)` of the removed ones in order; a value that is no literal is a string.
    """
    kept, fields = list[str](), list[tuple[str, str, Any]]()
    for word in words:
        override = re.fullmatch(rf"--?({'|'.join(configs) or '$^'})\.method\.(?!name=)(\w+)=(.*)", word, re.DOTALL)
        if override:
            fields.append((override[1], override[2], _literal(override[3])))
        else:
            kept.append(word)
    return kept, fields


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
