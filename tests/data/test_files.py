"""Where the files of a dataset are looked for, and what is said when they are nowhere."""

import functools
import gzip
import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest

from minigrad_nn.data import MNIST, DataFileError, IdxError
from minigrad_nn.data import mnist as mnist_module
from minigrad_nn.data.files import IdxFile, find_file, load_idx_files
from tests.data.test_idx import idx_bytes

ARRAYS = {
    "pictures.gz": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "labels.gz": np.array([1, 0, 2], dtype=np.uint8),
}
ARCHIVES = {name: gzip.compress(idx_bytes(array)) for name, array in ARRAYS.items()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


FILES = [
    IdxFile(name, array.shape, sha256(idx_bytes(array)), sha256(ARCHIVES[name]))
    for name, array in ARRAYS.items()
]


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A data folder and a cache folder of the test's own; neither exists yet."""
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def put(folder, contents=ARCHIVES):
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


class Server:
    """A mirror on this machine that counts what it is asked for."""

    def __init__(self, folder):
        self.asked = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_):
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def mirror(tmp_path):
    put(tmp_path / "mirror")
    server = Server(tmp_path / "mirror")
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def load(*mirrors):
    return load_idx_files("toy", FILES, [getattr(m, "url", m) for m in mirrors])


def check(arrays):
    assert [a.tolist() for a in arrays] == [a.tolist() for a in ARRAYS.values()]


def test_the_given_folder_comes_first(folders, mirror):
    put(folders / "given" / "toy")
    put(folders / "cache" / "toy", dict.fromkeys(ARRAYS, b"never read"))
    check(load(mirror))
    assert mirror.asked == []


def test_unpacked_files_are_read_too(folders):
    put(folders / "given" / "toy", {n.removesuffix(".gz"): idx_bytes(a) for n, a in ARRAYS.items()})
    check(load())


def test_another_compression_of_the_same_content_is_accepted(folders):
    put(folders / "given" / "toy", {n: gzip.compress(idx_bytes(a), 1) for n, a in ARRAYS.items()})
    check(load())


def test_the_cache_folder_comes_second(folders, mirror):
    put(folders / "cache" / "toy")
    check(load(mirror))
    assert mirror.asked == []


def test_download_into_the_cache_happens_once(folders, mirror):
    pytest.importorskip("pooch")
    check(load(mirror))
    assert mirror.asked == ["/pictures.gz", "/labels.gz"]
    assert sorted(p.name for p in (folders / "cache" / "toy").iterdir()) == sorted(ARRAYS)
    check(load(mirror))
    assert len(mirror.asked) == 2


def test_the_next_mirror_is_asked_when_one_fails(mirror):
    pytest.importorskip("pooch")
    check(load(mirror.url + "nowhere/", mirror))


def test_a_damaged_file_in_the_cache_is_fetched_anew(folders, mirror):
    pytest.importorskip("pooch")
    put(folders / "cache" / "toy", ARCHIVES | {"labels.gz": ARCHIVES["labels.gz"][:-3]})
    check(load(mirror))
    assert mirror.asked == ["/labels.gz"]
    check(load())


def test_a_mirror_with_another_file_is_not_believed(folders, mirror):
    pytest.importorskip("pooch")
    other = gzip.compress(idx_bytes(ARRAYS["labels.gz"] + 1))
    (folders / "mirror" / "labels.gz").write_bytes(other)
    with pytest.raises(FileNotFoundError, match="hash"):
        load(mirror)
    assert not (folders / "cache" / "toy" / "labels.gz").exists()


def test_a_damaged_given_file_is_an_error_and_never_replaced(folders, mirror):
    put(folders / "given" / "toy", ARCHIVES | {"labels.gz": ARCHIVES["pictures.gz"]})
    with pytest.raises(IdxError, match=r"labels\.gz has checksum"):
        load(mirror)
    assert mirror.asked == []


def test_a_file_of_another_shape_is_an_error(folders):
    put(folders / "given" / "toy")
    file = FILES[1]
    wrong = IdxFile(file.name, (4,), file.sha256, file.archive_sha256)
    with pytest.raises(IdxError, match=r"holds shape \(3,\), wanted \(4,\)"):
        load_idx_files("toy", [wrong], [])


def test_offline_says_which_files_to_put_where(folders):
    pytest.importorskip("pooch")
    put(folders / "given" / "toy", {"labels.gz": ARCHIVES["labels.gz"]})
    with pytest.raises(FileNotFoundError) as told:
        load("http://127.0.0.1:1/")
    message = str(told.value)
    assert "pictures.gz  (or unpacked: pictures)" in message
    assert "labels.gz" not in message  # it is there
    for place in (folders / "given" / "toy", folders / "cache" / "toy", "http://127.0.0.1:1/"):
        assert str(place) in message


def test_without_a_given_folder_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA")
    with pytest.raises(FileNotFoundError, match="variable MINIGRAD_DATA"):
        load()


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"minigrad\[data\]"):
        load("http://127.0.0.1:1/")


def test_mnist_without_network_names_its_files(monkeypatch):
    monkeypatch.setattr(mnist_module, "MIRRORS", ("http://127.0.0.1:1/",))
    with pytest.raises(FileNotFoundError) as told:
        MNIST("test")
    assert "t10k-images-idx3-ubyte.gz" in str(told.value)
    assert "t10k-labels-idx1-ubyte.gz" in str(told.value)
    assert "train-images" not in str(told.value)


class TestFindFile:
    """A dataset that is one file."""

    content = b"some text"
    name = "text.txt"

    def find(self, *urls, sha=None):
        return find_file(self.name, sha or sha256(self.content), urls)

    def test_the_given_folder_comes_first_and_must_be_right(self, folders):
        put(folders / "given", {self.name: self.content})
        put(folders / "cache", {self.name: b"never read"})
        assert self.find() == folders / "given" / self.name
        with pytest.raises(DataFileError, match=r"text\.txt has checksum .*, wanted 00"):
            self.find(sha="00")

    def test_the_cache_folder_comes_second(self, folders):
        put(folders / "cache", {self.name: self.content})
        assert self.find("http://127.0.0.1:1/x") == folders / "cache" / self.name

    def test_it_is_downloaded_once_and_a_damaged_one_again(self, folders, mirror):
        pytest.importorskip("pooch")
        (folders / "mirror" / "other.txt").write_bytes(self.content)
        (folders / "mirror" / "wrong.txt").write_bytes(b"wrong")
        urls = mirror.url + "wrong.txt", mirror.url + "other.txt"
        path = self.find(*urls)
        assert path == folders / "cache" / self.name and path.read_bytes() == self.content
        assert self.find(*urls) == path and mirror.asked == ["/wrong.txt", "/other.txt"]
        path.write_bytes(b"damaged")
        assert self.find(*urls).read_bytes() == self.content
        assert mirror.asked[2:] == ["/wrong.txt", "/other.txt"]

    def test_a_missing_file_is_told_with_all_that_went_wrong(self, folders, monkeypatch):
        put(folders / "cache", {self.name: b"damaged"})
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(FileNotFoundError) as told:
            self.find("http://127.0.0.1:1/x", "http://127.0.0.1:1/y")
        message = str(told.value)
        for wanted in (
            "(from MINIGRAD_DATA)",
            str(folders / "cache"),
            "127.0.0.1:1/y",
            sha256(self.content),
            "has checksum",
            "minigrad[data]",
        ):
            assert wanted in message
        assert message.count("minigrad[data]") == 1
        monkeypatch.delenv("MINIGRAD_DATA")
        with pytest.raises(FileNotFoundError, match="variable MINIGRAD_DATA names") as told:
            self.find()
        assert "offered" not in str(told.value)
