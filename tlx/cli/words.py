"""The two ways to say a config on a command line, each in terms of the other."""

import re
from collections.abc import Sequence


def as_words(argv: Sequence[str]) -> list[str]:
    """The words of a launch, `--config=FILE.py:ARGUMENT --config.FIELD=VALUE … --workdir=DIR`, as a command that reads
    a config takes them: `FILE.py:ARGUMENT FIELD=VALUE …` at the end, and no run directory."""
    others, files, fields = _sorted(argv)
    if "--workdir" in others:
        del others[others.index("--workdir") : others.index("--workdir") + 2]
    return [*(word for word in others if not word.startswith("--workdir=")), *files, *fields]


def as_flags(argv: Sequence[str]) -> list[str]:
    """The inverse of `as_words`; what is said so already stays."""
    others, files, fields = _sorted(argv)
    return [*(f"--config={file}" for file in files), *(f"--config.{field}" for field in fields), *others]


def _sorted(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The words that have nothing to do with a config, config files, and `FIELD=VALUE`s, each in their order."""
    others: list[str] = []
    files: list[str] = []
    fields: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        flag = re.fullmatch(r"--?config(?:\.([\w.]+))?(=.*)?", word, re.DOTALL)
        no = re.fullmatch(r"--?noconfig\.([\w.]+)", word)
        if flag:
            apart = flag[2] is None and words and not words[0].startswith("--")
            value = words.pop(0) if apart else (flag[2] or "=")[1:]
            switch = flag[2] is None and not apart  # --config.FIELD alone: true
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
    """The words but for each `--FLAG.FIELD=None` of a config, and `(flag, field)` of those that no later word fills."""
    empty: dict[tuple[str, str], None] = {}
    kept = []
    for word in words:
        said = re.fullmatch(rf"--?({'|'.join(configs) or '$^'})\.([\w.]+)=(.*)", word, re.DOTALL)
        if said and said[3] == "None":
            empty[said[1], said[2]] = None
        else:
            kept.append(word)
            if said:
                empty.pop((said[1], said[2]), None)
    return kept, list(empty)
