"""Data: prepared sets, images, archives, tables."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import case
from tests.hostile.place import Place

CORE = "tensorflow_datasets.core.features"


def of_tfds(place: Place, name: str, content: Any) -> list[str]:
    """Training on the prepared set, one of its descriptions changed: a dict's fields, or whole."""
    file = place.copy("sets") / "tlx_hostile_set" / "1.0.0" / name
    before = json.loads(file.read_text())
    file.write_text(json.dumps(content(before) if callable(content) else content))
    return place.finetune(place.text, "tfds:tlx_hostile_set")


def feature(name: str) -> dict[str, Any]:
    text = {"pythonClassName": name, "text": {}}
    return {"pythonClassName": f"{CORE}.features_dict.FeaturesDict", "featuresDict": {"features": {"text": text}}}


@case("asks for the feature class 'evil.Evil'", quick=True)
def tfds_names_a_class(place: Place) -> list[str]:
    return of_tfds(place, "features.json", feature("evil.Evil"))


@case("asks for the feature class 'evil.Evil'")
def tfds_names_a_class_in_dataset_info(place: Place) -> list[str]:
    return of_tfds(place, "dataset_info.json", lambda said: {**said, "features": feature("evil.Evil")})


@case("asks for the feature class 'evil.Evil'")
def tfds_names_a_class_within_json_in_json(place: Place) -> list[str]:
    held = json.dumps({"text": {"type": "evil.Evil", "content": {}}})
    said = {"pythonClassName": f"{CORE}.features_dict.FeaturesDict", "jsonFeature": {"json": held}}
    return of_tfds(place, "features.json", said)


@case("names of its labels from /dev/zero, which lies outside")
def tfds_label_names_from_dev_zero(place: Place) -> list[str]:
    label = {"type": f"{CORE}.class_label_feature.ClassLabel", "content": {"names_file": "/dev/zero"}}
    said = {"type": f"{CORE}.features_dict.FeaturesDict", "content": {"text": label}}
    return of_tfds(place, "features.json", said)


@case("said to have 1,000,000,000,000 rows")
def tfds_claims_a_million_million_rows(place: Place) -> list[str]:
    def claim(said: dict[str, Any]) -> dict[str, Any]:
        said["splits"][0]["shardLengths"] = [str(10**12)]
        return said

    return of_tfds(place, "dataset_info.json", claim)


@case("is not a file but a pipe")
def tfds_shard_is_a_pipe(place: Place) -> list[str]:
    file = next((place.copy("sets") / "tlx_hostile_set" / "1.0.0").glob("*.array_record*"))
    file.unlink()
    os.mkfifo(file)
    return place.finetune(place.text, "tfds:tlx_hostile_set")


def of_photos(place: Place, spoil: Any) -> list[str]:
    """Training on a folder of images of which one is spoilt."""
    file = place.copy("photos") / "a" / "0.png"
    file.unlink()
    spoil(file)
    return place.finetune(place.vit, f"folder:{place.here / 'photos'}")


@case("0.png is not a file but a pipe", quick=True)
def image_is_a_pipe(place: Place) -> list[str]:
    return of_photos(place, os.mkfifo)


@case("0.png is not a file but a pipe or a device")
def image_is_a_link_to_dev_zero(place: Place) -> list[str]:
    return of_photos(place, lambda file: file.symlink_to("/dev/zero"))


@case("is a git-lfs pointer")
def image_is_a_git_lfs_pointer(place: Place) -> list[str]:
    return of_photos(place, lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"))


@case("is PostScript, a program and no image")
def image_is_a_program(place: Place) -> list[str]:
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n({place.here / 'executed'}) (w) file\n"
    return of_photos(place, lambda file: file.write_text(program))


def png(file: Path, width: int, height: int, kind: int, *chunks: tuple[bytes, bytes]) -> None:
    """A PNG of zeros, 8 bits a channel. kind: 2 RGB, 3 a palette, 6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row = zlib.compressobj(1), bytes(1 + width * {2: 3, 3: 1, 6: 4}[kind])
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def alike(place: Place, count: int, width: int, height: int, kind: int, *chunks: tuple[bytes, bytes]) -> list[str]:
    """The features of images alike, which all cores would decode at once."""
    folder = place.here / "large"
    folder.mkdir()
    png(folder / "0.png", width, height, kind, *chunks)
    for i in range(1, count):
        shutil.copyfile(folder / "0.png", folder / f"{i}.png")
    return place.features(place.vit, f"folder:{folder}")


@case("has more than 120,000,000 pixels")
def eight_images_just_under_pillows_guard(place: Place) -> list[str]:
    return alike(place, 8, 13_300, 13_300, 2)


@case("features of 3 examples")
def three_images_of_the_most_pixels(place: Place) -> list[str]:
    return alike(place, 3, 10_900, 11_000, 6)


@case("features of 3 examples")
def three_images_of_the_most_pixels_with_a_transparent_colour(place: Place) -> list[str]:
    return alike(place, 3, 10_900, 11_000, 3, (b"PLTE", bytes(768)), (b"tRNS", bytes(9)))


@case()
def image_of_one_row(place: Place) -> list[str]:
    folder = place.copy("vit")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    crop = {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"shortest_edge": 8}, **crop}))
    (place.here / "large").mkdir()
    png(place.here / "large" / "0.png", 100_000_000, 1, 3, (b"PLTE", bytes(768)))
    return place.features(folder, f"folder:{place.here / 'large'}")


@case()
def image_with_a_gigabyte_of_comment(place: Place) -> list[str]:
    (place.here / "large").mkdir()
    text = b"Comment\0\0" + zlib.compress(bytes(2**30), 1)
    png(place.here / "large" / "0.png", 9, 9, 2, (b"zTXt", text))
    return place.features(place.vit, f"folder:{place.here / 'large'}")


@case("leads out of ")
def table_of_images_that_leads_out(place: Place) -> list[str]:
    folder = place.copy("photos")
    (folder / "metadata.csv").write_text("file_name,label\na/0.png,x\n../../../../etc/passwd,y\n")
    return place.finetune(place.vit, f"folder:{folder}")


def array_header(shape: tuple[int, ...]) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return made.getvalue()


def of_archive(place: Place, shape: tuple[int, ...], zeros: int) -> list[str]:
    """Training on an archive of which one array has this header and so many bytes of zeros."""
    with zipfile.ZipFile(place.here / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("image.npy", "w", force_zip64=True) as member:
            member.write(array_header(shape))
            for _ in range(zeros // 2**24):
                member.write(bytes(2**24))
        archive.writestr("label.npy", array_header((shape[0],)) + bytes(min(shape[0], 2**20)))
    return place.finetune(place.vit, f"npz:{place.here / 'a.npz'}")


@case("is too large for a file of .*: its arrays would take 6.0 GiB")
def npz_that_inflates_to_6_gigabytes(place: Place) -> list[str]:
    return of_archive(place, (6 * 2**6, 2**12, 2**12), 6 * 2**30)


@case("is too large: its arrays would take .* PiB of memory", quick=True)
def npz_that_claims_an_exabyte(place: Place) -> list[str]:
    return of_archive(place, (10**6, 10**6, 10**6), 0)


@case("holds Python objects, which are not unpickled")
def npz_with_a_pickle(place: Place) -> list[str]:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {place.here / 'executed'}",)

    np.savez(place.here / "a.npz", image=np.array([Calls()], object), label=np.arange(1))
    return place.finetune(place.vit, f"npz:{place.here / 'a.npz'}")


@case("compressed by another method")
def npz_in_bzip2(place: Place) -> list[str]:
    with zipfile.ZipFile(place.here / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("image.npy", array_header((2**20, 1)) + bytes(2**20))
    return place.finetune(place.vit, f"npz:{place.here / 'a.npz'}")


@case("there is no file|is not a file but")
def csv_is_a_pipe(place: Place) -> list[str]:
    os.mkfifo(place.here / "a.csv")
    return place.finetune(place.text, f"csv:{place.here / 'a.csv'}")


@case("there is no file|is not a file but")
def predict_reads_a_pipe(place: Place) -> list[str]:
    os.mkfifo(place.here / "a.csv")
    return place.predict(place.run, place.here / "a.csv")


@case()
def json_lines_nested_deeply_in_training(place: Place) -> list[str]:
    (place.here / "a.jsonl").write_text('{"text": ' + "[" * 10**6 + "\n")
    return place.finetune(place.text, f"jsonl:{place.here / 'a.jsonl'}")


@case()
def json_lines_nested_deeply_in_predict(place: Place) -> list[str]:
    (place.here / "a.jsonl").write_text('{"text": ' + "[" * 10**6 + "\n")
    return place.predict(place.run, place.here / "a.jsonl")


@case()
def numbers_of_100000_digits(place: Place) -> list[str]:
    (place.here / "a.jsonl").write_text('{"text": "a film", "label": ' + "9" * 100_000 + "}\n")
    return place.finetune(place.text, f"jsonl:{place.here / 'a.jsonl'}")


@case()
def numbers_of_100000_digits_as_targets(place: Place) -> list[str]:
    rows = [f"film {i},{'9' * 100_000}\n" for i in range(20)]
    (place.here / "a.csv").write_text("text,label\n" + "".join(rows))
    return place.finetune(place.text, f"csv:{place.here / 'a.csv'}", **{"head.kind": "regression"})


@case()
def a_million_columns(place: Place) -> list[str]:
    (place.here / "a.csv").write_text(",".join(f"c{i}" for i in range(10**6)) + "\n" + "," * (10**6 - 1) + "\n")
    return place.finetune(place.text, f"csv:{place.here / 'a.csv'}")


@case()
def a_pickle_called_csv(place: Place) -> list[str]:
    (place.here / "a.csv").write_bytes(pickle.dumps({"text": ["a"], "label": ["b"]}))
    return place.finetune(place.text, f"csv:{place.here / 'a.csv'}")
