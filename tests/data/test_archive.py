"""Archives are unpacked whole, once, and only below the folder; everything else is refused."""

import hashlib
import io
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.data import ArchiveError, DataFileError, extract

FILES = {"a/one.txt": b"1" * 3000, "a/b/two.txt": b"22", "three": b""}


def member(name, content=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write(path, members, mode="w:xz", **options):
    with tarfile.open(path, mode, **options) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path):
    return write(tmp_path / "toy.tar.xz", [member(n, c) for n, c in FILES.items()])


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def nothing_left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("packing", ["xz", "gz", "bz2", ""])
def test_files_come_out_as_they_went_in(tmp_path, packing):
    members = [member("./a", kind=tarfile.DIRTYPE), *(member(n, c) for n, c in FILES.items())]
    archive = write(tmp_path / "toy.tar", members, f"w:{packing}")
    folder = extract(archive, tmp_path / "out" / "toy")
    assert folder == tmp_path / "out" / "toy" and content(folder) == FILES
    assert nothing_left(tmp_path / "out") == ["toy"]


def test_it_happens_once(tmp_path, archive):
    folder = extract(archive, tmp_path / "out")
    (folder / "three").write_bytes(b"mine")
    assert content(extract(archive, tmp_path / "out"))["three"] == b"mine"


def test_the_cache_folder_is_the_default_and_knows_the_content(tmp_path, archive, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = extract(archive, sha256=digest)
    assert folder == tmp_path / "cache" / "archives" / f"toy-{digest[:16]}"
    assert content(folder) == FILES
    write(archive, [member("other", b"x")])
    assert content(extract(archive)) == {"other": b"x"}


def test_owners_permissions_and_times_are_not_taken_over(tmp_path):
    fields = {"mode": 0o6777, "uid": 12345, "mtime": 0}
    archive = write(tmp_path / "x.tar.xz", [member("tool", b"x", **fields)])
    found = (extract(archive, tmp_path / "out") / "tool").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert found.st_uid != 12345 and found.st_mtime > 1e9
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


BAD = {
    "absolute": ([member("/etc/x", b"x")], "'/etc/x', an absolute name"),
    "upwards": ([member("a/../../x", b"x")], "a name that leads out of the folder"),
    "drive": ([member("c:x", b"x")], "signs that not every system allows"),
    "backslash": ([member("..\\x", b"x")], "signs that not every system allows"),
    "newline": ([member("a\nb", b"x")], "signs that not every system allows"),
    "link": ([member("x", kind=tarfile.SYMTYPE, linkname="/etc/passwd")], "a link, to '/etc/pass"),
    "hard link": ([member("x", kind=tarfile.LNKTYPE, linkname="a")], "a link, to 'a'"),
    "pipe": ([member("x", kind=tarfile.FIFOTYPE)], "no regular file or folder"),
    "device": ([member("x", kind=tarfile.CHRTYPE)], "no regular file or folder"),
    "twice": ([member("x", b"1"), member("./x", b"2")], "'./x' twice"),
    "file as folder": ([member("x", b"1"), member("x/y", b"2")], "'x/y' twice"),
    "folder as file": ([member("x/y", b"1"), member("x", b"2")], "'x' twice"),
    "empty": ([], "no tar archive, or an empty one"),
    "holes": (
        [member("x", b"", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"})],
        "a file with holes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_safe_is_refused_and_nothing_is_left(tmp_path, name):
    members, message = BAD[name]
    archive = write(tmp_path / "bad.tar.xz", [member("good", b"x"), *members] if members else [])
    with pytest.raises(ArchiveError, match="bad.tar.xz") as told:
        extract(archive, tmp_path / "deep" / "out")
    assert message in str(told.value)
    assert nothing_left(tmp_path / "deep") == []
    assert nothing_left(tmp_path) == ["bad.tar.xz", "deep"]


@pytest.mark.parametrize(
    "packing, damage",
    [
        (packing, damage)
        for packing in ("xz", "gz", "bz2", "")
        for damage in ("cut", "cut within a file", "flipped", "no archive")
        if packing or damage != "flipped"  # a plain tar file has no sum over its contents
    ],
)
def test_damaged_archives_are_told(tmp_path, damage, packing):
    noise = hashlib.shake_256(b"noise").digest(20_000)  # which no packing makes shorter
    archive = write(tmp_path / "x.tar", [member("x", noise), member("y", noise)], f"w:{packing}")
    whole = archive.read_bytes()
    if damage == "cut":
        whole = whole[: len(whole) - len(whole) // 3]
    elif damage == "cut within a file":
        whole = whole[:5000]
    elif damage == "flipped":
        middle = len(whole) // 2
        whole = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    else:
        whole = b"no archive at all" * 100
    archive.write_bytes(whole)
    with pytest.raises(ArchiveError, match=r"x\.tar"):
        extract(archive, tmp_path / "out")
    assert nothing_left(tmp_path) == ["x.tar"]


def test_limits_hold(tmp_path, archive):
    with pytest.raises(ArchiveError, match="more than 2 files and folders; raise max_files"):
        extract(archive, tmp_path / "out", max_files=2)
    with pytest.raises(ArchiveError, match="more than the limit of 3000 bytes; raise max_bytes"):
        extract(archive, tmp_path / "out", max_bytes=3000)
    assert nothing_left(tmp_path) == ["toy.tar.xz"]
    assert content(extract(archive, tmp_path / "out", max_files=3, max_bytes=20_000)) == FILES


def test_a_bomb_in_a_header_is_refused_before_it_is_unpacked(tmp_path):
    """The name of a member may be as long as it likes, and compresses well."""
    members = [member("x" * 50_000_000)]
    archive = write(tmp_path / "bomb.tar.xz", members, preset=0, format=tarfile.GNU_FORMAT)
    assert archive.stat().st_size < 100_000
    with pytest.raises(ArchiveError, match="more than the limit of 1000000 bytes"):
        extract(archive, tmp_path / "out", max_bytes=1_000_000)


def test_another_checksum_is_told(tmp_path, archive):
    for folder in (tmp_path / "out", None):
        with pytest.raises(DataFileError, match="has checksum .*, wanted 00"):
            extract(archive, folder, sha256="00")


def test_a_missing_archive_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "nowhere.tar", tmp_path / "out")
    assert nothing_left(tmp_path) == []


def test_several_at_once_end_with_one_folder(tmp_path, archive):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: extract(archive, tmp_path / "out"), range(8)))
    assert folders == [tmp_path / "out"] * 8 and content(tmp_path / "out") == FILES
    assert nothing_left(tmp_path) == ["out", "toy.tar.xz"]


@given(st.binary(min_size=1, max_size=12), st.integers(0, 2500), st.booleans())
def test_any_damage_to_headers_is_an_archive_error_or_none(tmp_path_factory, noise, place, extend):
    folder = tmp_path_factory.mktemp("damage")
    members = [member("a" * 120, b"x" * 30, pax_headers={"comment": "y"}), member("b", b"z")]
    kind = tarfile.PAX_FORMAT if extend else tarfile.GNU_FORMAT
    archive = write(folder / "x.tar", members, "w", format=kind)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    try:
        out = extract(archive, folder / "out", max_bytes=100_000)
    except ArchiveError as error:
        assert str(archive) in str(error)
        assert nothing_left(folder) == ["x.tar"]
    else:
        assert nothing_left(folder) == ["out", "x.tar"]
        assert len(content(out)) <= 2
