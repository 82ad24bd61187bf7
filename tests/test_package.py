"""The package as others take it: the wheel's contents and metadata, and its command where there is no checkout."""

import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # SHA-256 of the licence's plain text
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python(*arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (file,) = folder.glob("*.whl")
    return file


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    info = f"tlx-{PROJECT['version']}.dist-info"
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tlx").rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(info)} == {name for name in here if "__pycache__" not in name}
    assert {name.partition("/")[0] for name in names} == {"tlx", info}
    assert "tlx/py.typed" in names and f"{info}/licenses/LICENSE" in names


@pytest.mark.slow
def test_the_metadata(wheel: Path) -> None:
    told = metadata(wheel)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("tlx", PROJECT["version"], "Apache-2.0")
    assert told.get_all("License-File") == ["LICENSE"]
    assert set(told.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert "# tlx: transfer learning in JAX" in str(told.get_payload())


@pytest.mark.slow
def test_the_command_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place), str(wheel))
    where = python("-c", "import tlx; print(tlx.__file__)", cwd=tmp_path, PYTHONPATH=str(place))
    assert where.strip() == str(place / "tlx" / "__init__.py")
    for words in (["-m", "tlx.cli.main"], [str(place / "bin" / "tlx")]):
        for command in ([], ["predict"]):
            assert "usage: tlx" in python(*words, *command, "--help", cwd=tmp_path, PYTHONPATH=str(place))


def test_the_licence_is_the_standard_text() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_citation_and_changelog_tell_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys() and cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in changes or f"will be {PROJECT['version']}" in changes
