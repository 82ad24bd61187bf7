"""Where images come from: folders, archives of arrays, the digits of scikit-learn."""

import io
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise
from tlx.data.images import read_rgb
from tlx.data.lazy import Lazy
from tlx.data.sources import Table, load, splits_of
from tlx.errors import TlxError


def place(folder: Path, *names: str) -> Path:
    """Files of these names: small images, text where the suffix says so."""
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".txt", ".csv", ".jsonl", ".pdf"):
            file.write_text("no image")
        else:
            Image.new("RGB", (2, 2), (number, 0, 0)).save(file, "png")
    return folder


def names(folder: Path, table: Table) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in table.column("image")]


def test_a_folder_of_classes(tmp_path: Path) -> None:
    place(
        tmp_path, "dog/b.png", "dog/a.JPG", "dog/deep/z/c.webp", "cat/x y.jpeg", "cat/notes.txt", "cat/.hidden.png",
        "cat/.cache/e.png", ".git/f.png", "cat/paper.pdf", "readme.txt",
    )  # fmt: skip
    table = load(f"folder:{tmp_path}")
    assert set(table.columns) == {"image", "label"}
    assert names(tmp_path, table) == ["cat/x y.jpeg", "dog/a.JPG", "dog/b.png", "dog/deep/z/c.webp"]
    assert table.column("label") == ["cat", "dog", "dog", "dog"]
    assert [int(read_rgb(image)[0, 0, 0]) for image in table.column("image")] == [3, 1, 0, 2]
    part = table.rows(np.array([2, 0]))
    assert names(tmp_path, part) == ["dog/b.png", "cat/x y.jpeg"] and part.column("label") == ["dog", "cat"]


def test_a_folder_of_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, "b.png", "a.png", ".c.png", "d.txt")
    monkeypatch.setenv("SOME_PLACE", str(tmp_path))
    table = load("folder:$SOME_PLACE")
    assert set(table.columns) == {"image"} and names(tmp_path, table) == ["a.png", "b.png"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_beside_the_images(tmp_path: Path, kind: str) -> None:
    place(tmp_path, "train/a.png", "b.png", "unlisted.png")
    content = {
        "csv": "file_name,label,note\nb.png,dog,n\ntrain/a.png,cat,\nb.png,dog,m\n",
        "jsonl": '{"file_name": "b.png", "label": "dog", "note": "n"}\n'
        '{"file_name": "train/a.png", "label": "cat", "note": ""}\n{"file_name": "b.png", "label": "dog", "note": "m"}',
    }
    (tmp_path / f"metadata.{kind}").write_text(content[kind])
    table = load(f"folder:{tmp_path}")
    assert names(tmp_path, table) == ["b.png", "train/a.png", "b.png"]
    assert {k: v for k, v in table.columns.items() if k != "image"} == {
        "label": ["dog", "cat", "dog"],
        "note": ["n", "", "m"],
    }


def test_links_inside_a_folder_are_followed(tmp_path: Path) -> None:
    place(tmp_path, "set/store/a.png")
    (tmp_path / "set" / "b.png").symlink_to("store/a.png")
    (tmp_path / "set" / "metadata.csv").write_text("file_name\nb.png\n")
    (tmp_path / "link").symlink_to("set")
    for folder in (tmp_path / "set", tmp_path / "link"):
        assert names(folder, load(f"folder:{folder}")) == ["b.png"]


@pytest.mark.parametrize(
    ("files", "metadata", "message"),
    [
        ((), None, "holds no images; expected a folder for each class"),
        (("a.txt",), None, "holds no images"),
        (("cat/a.png", "dog/a.txt", "eel/.a.png"), None, r"no images in the class folder\(s\) dog, eel"),
        (("cat/a.png", "a.png"), None, r"holds images \(a.png\) beside folders \(cat\)"),
        (("a.png",), {"csv": "name,label\na.png,1\n"}, "metadata.csv has no column 'file_name'; its columns are name"),
        (("a.png",), {"csv": "file_name,image\na.png,1\n"}, "has a column 'image'"),
        (("a.png",), {"csv": "file_name,label\n"}, "metadata.csv holds no rows"),
        (("a.png",), {"csv": "file_name\na.png\nb.png\n"}, "metadata.csv, row 2: there is no file .*b.png"),
        (("a.png",), {"csv": "file_name\na.png\n../out.png\n"}, "row 2: file_name '../out.png' leads out of "),
        (("a.png",), {"csv": "file_name\nb/../../out.png\n"}, "row 1: file_name .* leads out of "),
        (("a.png",), {"csv": "file_name\n/etc/passwd\n"}, "row 1: file_name '/etc/passwd' leads out of "),
        (("a.png",), {"csv": "file_name\nlink.png\n"}, "row 1: 'link.png' is a link that leads out of "),
        (("a.png",), {"csv": "file_name\nlinked/a.png\n"}, "row 1: 'linked/a.png' is a link that leads out of "),
        (("a.png",), {"csv": 'file_name\n""\n'}, "row 1: file_name is ''; expected the path of an image"),
        (("a.png",), {"jsonl": '{"file_name": null}\n'}, "row 1: file_name is None"),
        (("a.png",), {"jsonl": '{"file_name": "a\\u0000.png"}\n'}, "row 1: file_name is "),
        (("a.png",), {"jsonl": '{"file_name": "a.png"\n'}, "metadata.jsonl, line 1 is not JSON"),
        (("a/b.png",), {"csv": "file_name\na\n"}, "row 1: there is no file .*/a"),
        (("a.png",), {"csv": "file_name\na.png\n", "jsonl": "{}"}, "holds both metadata.csv, metadata.jsonl"),
    ],
)
def test_refused_folders(tmp_path: Path, files: tuple[str, ...], metadata: Any, message: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    place(tmp_path, "out.png", "elsewhere/a.png")
    place(folder, *files)
    for kind, content in (metadata or {}).items():
        (folder / f"metadata.{kind}").write_text(content)
        (folder / "link.png").symlink_to(tmp_path / "out.png")
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        break
    for kind, content in (metadata or {}).items():
        (folder / f"metadata.{kind}").write_text(content)
    with pytest.raises(TlxError, match=message) as error:
        load(f"folder:{folder}")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_root_of_splits(tmp_path: Path) -> None:
    """Under the names of fastai (`valid`), torchvision (`val`) and `imagefolder`, in any case of letters."""
    root = place(
        tmp_path / "set", "train/cat/a.png", "train/dog/b.png", "Val/cat/c.png", "testing/dog/d.png", ".cache/e.png",
    )  # fmt: skip
    found = {"train": f"folder:{root}@train", "validation": f"folder:{root}@validation", "test": f"folder:{root}@test"}
    assert splits_of(f"folder:{root}") == found
    wanted = {
        "train": ["train/cat/a.png", "train/dog/b.png"],
        "validation": ["Val/cat/c.png"],
        "test": ["testing/dog/d.png"],
    }
    for split, spec in found.items():
        table = load(spec)
        assert names(root, table) == wanted[split]
        assert table.column("label") == [name.split("/")[1] for name in wanted[split]]
    assert names(root, load(f"folder:{root}@dev")) == wanted["validation"]
    assert splits_of(f"folder:{root}/train") == splits_of("builtin:digits") == splits_of("folder:nowhere") == {}
    message = rf"holds folders of splits \(train, Val, testing\), not of classes; name one, as in {root}@train"
    with pytest.raises(TlxError, match=message):
        load(f"folder:{root}")
    with pytest.raises(TlxError, match=r"there is no split 'unseen' in .*; there is train, Val, testing"):
        load(f"folder:{root}@unseen")
    with pytest.raises(TlxError, match=r"there is no split 'test' in .*; it holds no folders of splits"):
        load(f"folder:{root}/train@test")


def test_what_is_no_root_of_splits(tmp_path: Path) -> None:
    """A class `train` beside others; an `@` in a folder's own name; images listed in a table."""
    vehicles = place(tmp_path / "a", "train/a.png", "bus/b.png")
    assert load(f"folder:{vehicles}").column("label") == ["bus", "train"]
    assert load(f"folder:{place(tmp_path / 'b@test', 'cat/a.png')}").column("label") == ["cat"]
    listed = place(tmp_path / "c", "train/a.png", "test/b.png")
    (listed / "metadata.csv").write_text("file_name\ntest/b.png\n")
    assert names(listed, load(f"folder:{listed}")) == ["test/b.png"]
    mixed = place(tmp_path / "d", "train/cat/a.png", "test/cat/b.png", "extra/c.png")
    with pytest.raises(TlxError, match=r"holds folders of splits \(train, test\) beside others \(extra\); name one"):
        load(f"folder:{mixed}")
    below = place(tmp_path / "f", "cat/train/a.png", "cat/test/b.png", "dog/train/c.png")
    with pytest.raises(TlxError, match=r"f/cat holds folders of splits \(test, train\) below a class; put the classes"):
        load(f"folder:{below}")
    twice = place(tmp_path / "e", "val/cat/a.png", "valid/cat/b.png")
    with pytest.raises(TlxError, match="holds val, valid, each a folder of validation images; keep one"):
        load(f"folder:{twice}")


def test_no_folder(tmp_path: Path) -> None:
    place(tmp_path, "a.png")
    for where in (tmp_path / "nowhere", tmp_path / "a.png"):
        with pytest.raises(TlxError, match=f"data 'folder:{where}': there is no folder {where}"):
            load(f"folder:{where}")
    with pytest.raises(TlxError, match="data 'folder:': there is no folder"):
        load("folder:")
    if os.geteuid():
        (tmp_path / "cat").mkdir(mode=0o000)
        with pytest.raises(TlxError, match=r"the folder .* cannot be listed"):
            load(f"folder:{tmp_path / 'cat'}")


def test_npz(tmp_path: Path) -> None:
    images, grey = noise((4, 5, 6, 3), 0), noise((4, 5, 6), 1)
    columns = {"label": np.arange(4, dtype=np.int64), "name": np.array(list("abcé")), "weight": np.ones(4) / 2}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", image=images, grey=grey, **columns)
        table = load(f"npz:{tmp_path}/a.npz")
        assert list(table.columns) == ["image", "grey", "label", "name", "weight"] and len(table) == 4
        np.testing.assert_array_equal(table.column("image"), images)
        np.testing.assert_array_equal(table.rows(np.array([3, 1])).column("grey"), grey[[3, 1]])
        assert table.column("label") == [0, 1, 2, 3] and type(table.column("label")[0]) is int
        assert table.column("name") == ["a", "b", "c", "é"] and table.column("weight") == [0.5] * 4


def archive(**arrays: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def other_member() -> bytes:
    made = io.BytesIO(archive(a=np.arange(3)))
    with zipfile.ZipFile(made, "a") as opened:
        opened.writestr("readme.txt", "hello")
    return made.getvalue()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def single() -> bytes:
    made = io.BytesIO()
    np.save(made, np.arange(3))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an npz archive"),
        (b"hello", "is not an npz archive"),
        (single(), "is not an npz archive"),
        (archive(a=np.arange(3))[:-30], "is not an npz archive"),
        (flipped(archive(a=np.arange(1000))), r"cannot be read \(.*\); it is damaged"),
        (archive(a=np.array([{}, []], object)), "the array 'a' holds Python objects, which are not unpickled"),
        (archive(a=np.arange(3), b=np.arange(4)), r"differ in their first length \(a 3, b 4\)"),
        (archive(a=np.float64(3)), "the array 'a' is a single value"),
        (archive(a=np.zeros(3, "M8[s]")), r"the array 'a' is of datetime64\[s\]; expected numbers or texts"),
        (archive(a=np.array([b"x"])), r"the array 'a' is of \|S1; expected numbers or texts"),
        (archive(a=np.zeros(3, [("x", "i4")])), "the array 'a' is of "),
        (other_member(), "'readme.txt' is not an array"),
        (archive(a=np.zeros((0, 3))), "holds no rows"),
        (archive(), "holds no rows"),
    ],
)
def test_refused_archives(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    with pytest.raises(TlxError, match=message) as error:
        load(f"npz:{file}")
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_digits() -> None:
    """The counts of the classes as the UCI archive states them; the pixels by Python's own round."""
    from sklearn.datasets import load_digits

    table = load("builtin:digits")
    images, labels = table.column("image"), table.column("label")
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8
    assert [Counter(labels)[digit] for digit in range(10)] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    theirs = load_digits().images
    for row in (0, 1000, 1796):
        assert images[row].tolist() == [[round(x * 255 / 16) for x in line] for line in theirs[row].tolist()]
    assert (images.min(), images.max()) == (0, 255) and type(labels[0]) is int


def test_lazy_columns() -> None:
    asked: list[int] = []

    def read(row: int) -> int:
        asked.append(row)
        return row * row

    column = Lazy(read, range(10))
    table = Table("t", {"x": column, "y": list(range(10))})
    part = table.rows(np.array([9, 2, 2])).rows(np.array([2, 0]))
    assert not asked and len(part) == 2
    assert (part.column("x")[0], part.column("x")[-1], list(part.column("x"))) == (4, 81, [4, 81])
    assert asked == [2, 9, 2, 9] and list(column[7:]) == [49, 64, 81]
    with pytest.raises(IndexError):
        column[10]
