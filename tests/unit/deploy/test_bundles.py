"""A requirement with its wheels: RedisGears' own form, and the file that carries it."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.hosts import bundles
from deploy.hosts.bundles import Bundle, BundleError
from deploy.rollout import bundle_file
from deploy.rollout.bundle_file import BundleFileError

PYMYSQL = Bundle("PyMySQL==1.1.1", {"PyMySQL-1.1.1-py3-none-any.whl": b"\x00wheel"})
PSYCOPG = Bundle(
    "psycopg[binary]==3.1.20",
    {
        "psycopg-3.1.20-py3-none-any.whl": b"one",
        "psycopg_binary-3.1.20-cp37-cp37m-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": b"two",
    },
)


def number(value: int) -> bytes:
    return struct.pack("<q", value)


def field(content: bytes) -> bytes:
    return number(len(content)) + content


# What RG.PYEXPORTREQ of RedisGears 1.2.13 gives.
EXPORTED = b"".join(
    (
        *(number(2), field(b"PyMySQL==1.1.1\0"), field(b"linux\0"), number(1), number(1)),
        *(field(b"PyMySQL-1.1.1-py3-none-any.whl\0"), field(b"\x00wheel")),
    )
)


def test_what_redisgears_exports_is_read() -> None:
    assert bundles.decode(EXPORTED) == PYMYSQL


@pytest.mark.parametrize("bundle", [PYMYSQL, PSYCOPG], ids=["one wheel", "two wheels"])
def test_what_is_imported_is_read_again(bundle: Bundle) -> None:
    assert bundles.decode(b"".join(bundle.parts())) == bundle


def test_what_is_large_goes_in_parts() -> None:
    large = Bundle("large==1", {"large-1-py3-none-any.whl": b"x" * (2 * bundles.PART_BYTES)})
    parts = list(large.parts())
    assert [len(each) for each in parts[:2]] == [bundles.PART_BYTES] * 2
    assert len(parts) == 3
    assert bundles.decode(b"".join(parts)) == large


@pytest.mark.parametrize("length", range(0, len(EXPORTED), 7))
def test_what_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(BundleError, match="cut off"):
        bundles.decode(EXPORTED[:length])


def test_a_form_of_later_is_refused() -> None:
    with pytest.raises(BundleError, match="form is 3"):
        bundles.decode(number(3) + EXPORTED[8:])


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    bundle_file.write(file, [PYMYSQL, PSYCOPG])
    assert bundle_file.read(file) == [PYMYSQL, PSYCOPG]
    bundle_file.write(file, [PYMYSQL])
    assert bundle_file.read(file) == [PYMYSQL]
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    bundle_file.write(file, [PYMYSQL])

    def broken() -> Any:
        yield PSYCOPG
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        bundle_file.write(file, broken())
    assert bundle_file.read(file) == [PYMYSQL]
    assert list(tmp_path.iterdir()) == [file]


def rewrite(file: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write a zip again with its members changed."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def manifest(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        document = {**json.loads(members["manifest.json"]), **values}
        members["manifest.json"] = json.dumps(document).encode()

    return change


def entry(requirement: str, *wheels: str) -> Callable[[dict[str, bytes]], None]:
    sums = [{"file": each, "sha256": "0"} for each in wheels]
    return manifest(requirements=[{"requirement": requirement, "wheels": sums}])


WHEEL = "PyMySQL-1.1.1-py3-none-any.whl"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda members: members.pop("manifest.json"), "holds no manifest.json"),
        (lambda members: members.update({"manifest.json": b"[]"}), "holds no manifest.json"),
        (lambda members: members.update({"manifest.json": b"\xff"}), "holds no manifest.json"),
        (manifest(format="other"), "is not gearsync's"),
        (manifest(version=2), "is of version 2, and this gearsync reads version 1"),
        (manifest(requirements=[]), "holds no requirement"),
        (manifest(requirements=["PyMySQL"]), "does not describe requirement 1"),
        (lambda members: members.update({f"1/{WHEEL}": b"other"}), "damaged"),
        (lambda members: members.pop(f"1/{WHEEL}"), "is missing"),
        (entry("no requirement at all", WHEEL), "not what pip takes"),
        (entry("PyMySQL; python_version < '4'", WHEEL), "RedisGears does not take"),
        (entry("PyMySQL"), "has no wheel"),
        (entry("PyMySQL", "../PyMySQL-1.1.1-py3-none-any.whl"), "is no wheel's name"),
        (entry("PyMySQL", "PyMySQL.tar.gz"), "is no wheel's name"),
        (entry("greenlet", "greenlet-3.1.1-cp311-cp311-manylinux_2_24_x86_64.whl"), "not for CPython 3.7"),
        (entry("lib", "lib-1-py2-none-any.whl"), "not for CPython 3.7"),
        (entry("lib", "lib-1-cp39-abi3-manylinux_2_24_x86_64.whl"), "not for CPython 3.7"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_reason(
    change: Callable[[dict[str, bytes]], None], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "drivers.zip"
    bundle_file.write(file, [PYMYSQL])
    rewrite(file, change)
    with pytest.raises(BundleFileError, match=reason):
        bundle_file.read(file)


@pytest.mark.parametrize(
    "name",
    [
        "lib-1-py2.py3-none-any.whl",
        "lib-1-py37-none-any.whl",
        "lib-1-cp36-abi3-manylinux1_x86_64.whl",
        "lib-1-cp37-none-manylinux1_x86_64.whl",
    ],
)
def test_wheels_for_its_python_are_taken(name: str, tmp_path: Path) -> None:
    bundle = Bundle("lib==1", {name: b"wheel"})
    bundle_file.write(tmp_path / "lib.zip", [bundle])
    assert bundle_file.read(tmp_path / "lib.zip") == [bundle]


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    file.write_bytes(b"no zip")
    with pytest.raises(BundleFileError, match="no zip"):
        bundle_file.read(file)


def test_a_file_that_was_packed_anew_and_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(bundle_file.MANIFEST, "{}" * 1000)
    content = bytearray(file.read_bytes())
    at = 30 + len(bundle_file.MANIFEST)
    content[at : at + 8] = b"\xff" * 8
    file.write_bytes(content)
    with pytest.raises(BundleFileError, match="damaged"):
        bundle_file.read(file)
    # The bit that says that it is encrypted, in both places.
    for place in (6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1
    file.write_bytes(content)
    with pytest.raises(BundleFileError, match="encrypted"):
        bundle_file.read(file)
