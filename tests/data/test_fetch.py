"""The whole set: from a folder, from a server that works, and from servers that do not."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from course_lib.data import fetch, load_images, make_task
from course_lib.data.images import CLASSES, IDX_FILES

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FIRST = "train-images-idx3-ubyte.gz"


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@pytest.fixture(scope="module")
def files():
    """A small set of the same kind: name → content of its four files."""
    rng = np.random.default_rng(0)
    made = {}
    for prefix, n in (("train", 200), ("t10k", 30)):
        labels = np.arange(n, dtype=np.uint8) % 10
        made[f"{prefix}-images-idx3-ubyte"] = idx(rng.integers(256, size=(n, 28, 28), dtype=np.uint8))
        made[f"{prefix}-labels-idx1-ubyte"] = idx(labels)
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in made.items()}


@pytest.fixture
def folder(files, tmp_path):
    """A reader's own folder, with the small set in it."""
    own = tmp_path / "own"
    own.mkdir()
    for name, content in files.items():
        (own / name).write_bytes(content)
    return own


class Server(ThreadingHTTPServer):
    """Serves files; `mode` is how the next `bad` requests are answered, later ones as they should be."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.mode = "whole"
        self.bad = 0
        self.asked = []
        self.leaving = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        content = self.server.files[name]
        mode = "whole"
        if self.server.bad:
            self.server.bad -= 1
            mode = self.server.mode
        if mode == "missing":
            self.send_error(404)
            return
        if mode == "silent":
            self.server.leaving.wait()
            return
        if mode == "corrupted":
            content = content[:50] + bytes([content[50] ^ 1]) + content[51:]
        self.send_response(200)
        if mode != "short":  # a server that does not say how much is to come
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mode in ("truncated", "short", "stalled"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if mode == "stalled":
            self.wfile.flush()
            self.server.leaving.wait()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    served = Server(files)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(fetch, "BASE_URL", served.url)
    monkeypatch.setattr(fetch, "SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in files.items()})
    monkeypatch.setattr(fetch, "TIMEOUT", 600)  # seconds: a server that works may be slow
    monkeypatch.setenv(fetch.FOLDER_VARIABLE, str(tmp_path / "downloads"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)  # between attempts
    yield served
    served.leaving.set()
    served.shutdown()
    thread.join()
    served.server_close()


def kept(tmp_path):
    downloads = tmp_path / "downloads"
    return sorted(p.name for p in downloads.iterdir()) if downloads.exists() else []


def test_a_download_is_kept_and_not_repeated(server, files, tmp_path, capsys):
    task = make_task("fashion-mnist-full", 0, seed=0)
    assert task.images.train_images.shape == (200, 28, 28)
    assert task.validation_size == 30
    assert sorted(server.asked) == sorted(files)
    assert kept(tmp_path) == sorted(files)
    assert "100%" in capsys.readouterr().err, "no progress shown"
    assert make_task("fashion-mnist-full", 0, seed=0).digest == task.digest
    assert len(server.asked) == 4


BAD = {
    "truncated": "the connection broke off",
    "short": "the file that came has another SHA-256",
    "corrupted": "the file that came has another SHA-256",
    "stalled": "no answer for 0.3 s",
    "silent": "no answer for 0.3 s",
    "missing": "the server answered 404 Not Found",
}


@pytest.mark.parametrize(("mode", "said"), BAD.items())
def test_a_bad_server_leaves_nothing_behind_and_is_named(server, tmp_path, monkeypatch, mode, said):
    if said.startswith("no answer"):
        monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
    server.mode, server.bad = mode, 100
    with pytest.raises(ValueError, match=said) as error:
        make_task("fashion-mnist-full", 0, seed=0)
    message = str(error.value)
    assert message.startswith(f"{server.url}{FIRST}: ")
    assert "expected one of 4 files" in message
    assert "the task 'fashion-mnist'" in message
    assert "\n" not in message
    assert server.asked == [FIRST] * (1 + fetch.RETRIES)
    assert kept(tmp_path) == [], "a partial download is left"


@pytest.mark.slow
@pytest.mark.parametrize("mode", BAD)
def test_a_server_that_recovers_is_asked_again(server, files, tmp_path, monkeypatch, mode):
    if mode in ("stalled", "silent"):
        monkeypatch.setattr(fetch, "TIMEOUT", 1.0)  # long for the answer of a thread beside this one
    server.mode, server.bad = mode, fetch.RETRIES
    assert len(make_task("fashion-mnist-full", 0, seed=0).images.train_images) == 200
    assert kept(tmp_path) == sorted(files)


def test_a_file_that_was_damaged_after_its_download_is_fetched_again(server, files, tmp_path):
    digest = make_task("fashion-mnist-full", 0, seed=0).digest
    path = tmp_path / "downloads" / FIRST
    path.write_bytes(files[FIRST][:1000])
    assert make_task("fashion-mnist-full", 0, seed=0).digest == digest
    assert path.read_bytes() == files[FIRST]
    assert server.asked.count(FIRST) == 2


def test_no_network(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "BASE_URL", "http://127.0.0.1:9/")  # the discard port: nobody listens
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/.*: no connection: expected") as error:
        make_task("fashion-mnist-full", 0, seed=0)
    assert "\n" not in str(error.value)
    assert kept(tmp_path) == []


def test_downloads_that_cannot_be_kept(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(fetch.FOLDER_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(
        ValueError, match=r"(exists|Not a directory): expected one of 4 files .*file;"
    ) as error:
        make_task("fashion-mnist-full", 0, seed=0)
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_vendored_images_need_no_server(server):
    make_task("fashion-mnist", 0, seed=0).batch(0, 4)
    assert server.asked == []


# --- a folder of one's own ------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_ones_own_needs_no_server(server, files, folder, packed):
    if not packed:
        for name, content in files.items():
            (folder / name).unlink()
            (folder / name).with_suffix("").write_bytes(gzip.decompress(content))
    own = make_task("fashion-mnist-full", 0, seed=0, folder=folder)
    assert server.asked == []
    assert own.digest == make_task("fashion-mnist-full", 0, seed=0).digest
    assert [line.name for line in own.references] == ["constant guess", "nearest class mean"]


def test_a_folder_is_read_as_it_is_now(folder):
    before = make_task("fashion-mnist-full", 0, seed=0, folder=folder)
    labels = np.arange(30, dtype=np.uint8)[::-1] % 10
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    after = make_task("fashion-mnist-full", 0, seed=0, folder=folder)
    assert before.digest != after.digest
    assert after.images.test_labels.tolist() == labels.tolist()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 255
    path.write_bytes(raw)


BAD_FILES = {
    "missing": (lambda p: p.unlink(), r"expected a file that can be read \(No such file"),
    "truncated": (truncate, "is truncated or damaged .*expected a whole .gz file"),
    "damaged in its codes": (lambda p: damage(p, 10), "is truncated or damaged .*expected a whole .gz file"),
    "damaged in a pixel": (
        lambda p: damage(p, 100_000),
        "expected a file that can be read .CRC check failed",
    ),
    "no gzip": (lambda p: p.write_bytes(b"x" * 100), "expected a file that can be read .Not a gzipped file"),
    "empty": (lambda p: p.write_bytes(b""), "begins with nothing: expected 00000803"),
    "short": (
        lambda p: p.write_bytes(gzip.compress(idx(np.zeros((9, 28, 28), "u1"))[:-1])),
        "is truncated: ",
    ),
    "larger images": (
        lambda p: p.write_bytes(gzip.compress(idx(np.zeros((200, 32, 32), "u1")))),
        r"training images: shape is \(200, 32, 32\): expected",
    ),
    "fewer images": (
        lambda p: p.write_bytes(gzip.compress(idx(np.zeros((9, 28, 28), "u1")))),
        r"training labels: shape is \(200,\): expected one .* \(9,\)",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_of_ones_own_that_will_not_do(server, folder, kind):
    spoil, said = BAD_FILES[kind]
    path = folder / FIRST
    spoil(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ValueError, match=said) as error:
        make_task("fashion-mnist-full", 0, seed=0, folder=folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert (path.read_bytes() if path.exists() else None) == before, "a reader's own file was touched"
    assert server.asked == []


@pytest.mark.parametrize("kind", ["fashion-mnist", "copy", "text"])
def test_a_folder_for_another_task(kind, tmp_path):
    with pytest.raises(
        ValueError, match=f"folder is .*: expected none for the task '{kind}'; try task='fashion-m"
    ):
        make_task(kind, 8, seed=0, folder=tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_whole_set_and_the_part_that_is_vendored():
    whole = make_task("fashion-mnist-full", 0, seed=0, folder=DEBIAN)
    assert (len(whole.images.train_images), whole.validation_size) == (60_000, 10_000)
    part = load_images()
    for images, labels, ours, each in (
        (whole.images.train_images, whole.images.train_labels, part.train_images, 1000),
        (whole.images.test_images, whole.images.test_labels, part.test_images, 200),
    ):
        for c in range(len(CLASSES)):
            assert np.array_equal(images[labels == c][:each], ours[c :: len(CLASSES)])
    assert [line.accuracy for line in whole.references] == [0.1, 0.6768, 0.846]


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_sums_are_those_of_the_project_s_own_files():
    """Debian's lack the name and the time in gzip's header; with both put back they are the originals."""
    packed = {"train": 1504176606, "t10k": 1504176627}
    for stem, _ in IDX_FILES:
        raw = (DEBIAN / f"{stem}.gz").read_bytes()
        head = b"\x1f\x8b\x08\x08" + packed[stem.split("-")[0]].to_bytes(4, "little") + raw[8:10]
        original = head + stem.encode() + b"\0" + raw[10:]
        assert hashlib.sha256(original).hexdigest() == fetch.SHA256[f"{stem}.gz"]
