"""Links: inside the folder and into the Hugging Face cache's blobs they are followed, out of it they are refused."""

import os
from pathlib import Path

import pytest

from tests.pretrained.formats.made import NUMBERS, entry, safetensors
from tlx.errors import TlxError
from tlx.pretrained.formats.folder import open_tensors
from tlx.pretrained.formats.safe import check_links, inside

CONTENT = safetensors({"a": entry()}, NUMBERS)
HASH = "ab" + "0" * 62


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A Hugging Face cache with two repositories, of one snapshot each."""
    for repository in ("models--us--mine", "models--us--other"):
        (tmp_path / "hub" / repository / "snapshots" / "12ab").mkdir(parents=True)
        (tmp_path / "hub" / repository / "blobs").mkdir()
        (tmp_path / "hub" / repository / "blobs" / "f00").write_bytes(CONTENT)
    return tmp_path / "hub"


def out(folder: Path) -> None:
    for refused in (lambda: inside(folder, "model.safetensors"), lambda: open_tensors(folder)):
        with pytest.raises(TlxError, match=r"model\.safetensors is a link that leads out of its folder"):
            refused()
    with pytest.raises(TlxError, match="leads out"):
        check_links(folder, ["*.json", "*.safetensors"])
    check_links(folder, ["*.json", "token*"])


def good(folder: Path) -> None:
    assert open_tensors(folder).tensors["a"].read().shape == (2, 3)
    check_links(folder, ["*"])


def test_links_of_a_plain_folder(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(CONTENT)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    link = folder / "model.safetensors"
    link.symlink_to("../outside")
    out(folder)
    link.unlink()
    (folder / "step").symlink_to(tmp_path / "outside")
    link.symlink_to("step")
    out(folder)
    link.unlink()
    (folder / "inner").write_bytes(CONTENT)
    link.symlink_to("inner")
    assert open_tensors(folder).tensors["a"].read().shape == (2, 3)
    (tmp_path / "way").symlink_to("checkpoint")
    (folder / "step").unlink()
    good(tmp_path / "way")
    link.unlink()
    link.symlink_to("model.safetensors")
    with pytest.raises(TlxError, match=r"model\.safetensors (is not a file|cannot be opened: Too many levels)"):
        open_tensors(folder)
    link.unlink()
    link.symlink_to("../gone")
    out(folder)


def test_a_folder_in_a_folder_that_is_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.safetensors").write_bytes(CONTENT)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "tokenizer").symlink_to("../outside")
    with pytest.raises(TlxError, match="leads out"):
        check_links(tmp_path / "checkpoint", ["tokenizer*"])


def test_links_of_the_hugging_face_cache(cache: Path, tmp_path: Path) -> None:
    snapshot = cache / "models--us--mine" / "snapshots" / "12ab"
    link = snapshot / "model.safetensors"
    link.symlink_to("../../blobs/f00")
    good(snapshot)
    (tmp_path / "way").symlink_to(snapshot)
    good(tmp_path / "way")
    (tmp_path / "cache").symlink_to(cache)
    good(tmp_path / "cache" / "models--us--mine" / "snapshots" / "12ab")
    for target in ("../../../models--us--other/blobs/f00", "../../refs", "../cd34/model.safetensors", "/etc/passwd"):
        link.unlink()
        link.symlink_to(target)
        out(snapshot)
    link.unlink()
    link.symlink_to("../../blobs/f11")
    (cache / "models--us--mine" / "blobs" / "f11").symlink_to("../../models--us--other/blobs/f00")
    out(snapshot)


def test_a_folder_that_is_no_snapshot_has_no_blobs(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "f00").write_bytes(CONTENT)
    (tmp_path / "snaps" / "12ab").mkdir(parents=True)
    (tmp_path / "snaps" / "12ab" / "model.safetensors").symlink_to("../../blobs/f00")
    out(tmp_path / "snaps" / "12ab")


def test_blobs_that_are_a_link_themselves(cache: Path, tmp_path: Path) -> None:
    repository = cache / "models--us--mine"
    (repository / "blobs").rename(tmp_path / "elsewhere")
    (repository / "blobs").symlink_to(tmp_path / "elsewhere")
    (repository / "snapshots" / "12ab" / "model.safetensors").symlink_to("../../blobs/f00")
    out(repository / "snapshots" / "12ab")


def test_blobs_that_all_repositories_share(cache: Path) -> None:
    """What huggingface_hub ≥ 2 does: from the repository's blobs a link leads on to the cache's."""
    (cache / "blobs" / "ab").mkdir(parents=True)
    (cache / "blobs" / "ab" / HASH).write_bytes(CONTENT)
    snapshot = cache / "models--us--mine" / "snapshots" / "12ab"
    blob = cache / "models--us--mine" / "blobs" / "f22"
    blob.symlink_to(f"../../blobs/ab/{HASH}")
    link = snapshot / "model.safetensors"
    link.symlink_to("../../blobs/f22")
    out(snapshot)  # no mark that this cache shares its blobs
    (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    good(snapshot)
    link.unlink()
    link.symlink_to(f"../../../blobs/ab/{HASH}")  # not by way of the repository
    out(snapshot)
    link.unlink()
    link.symlink_to("../../blobs/f22")
    for place in ("ab/other", f"cd/{HASH}"):
        blob.unlink()
        (cache / "blobs" / place).parent.mkdir(exist_ok=True)
        (cache / "blobs" / place).write_bytes(CONTENT)
        blob.symlink_to(f"../../blobs/{place}")
        out(snapshot)


def test_entries_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(TlxError, match=r"model\.safetensors is not a file"):
        open_tensors(tmp_path)
    with pytest.raises(TlxError, match="cannot be listed"):
        check_links(tmp_path / "missing", ["*"])
    with pytest.raises(TlxError, match="holds no weights"):
        open_tensors(tmp_path / "missing")
    (tmp_path / "a\nb").write_text("")
    with pytest.raises(TlxError, match="a plain name without a path was expected"):
        check_links(tmp_path, ["a*"])
