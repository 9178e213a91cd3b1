"""Downloads from a server on this machine that misbehaves in every way we know."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import xxhash

from napari_sam.weights import fetch as fetching
from napari_sam.weights.fetch import (
    DownloadCancelled,
    DownloadError,
    fetch,
    find_downloaded,
    remove,
    use_file,
)
from napari_sam.weights.folders import cache_folder
from napari_sam.weights.registry import Entry, find_entry

CONTENTS = bytes(range(256)) * 4096
"""One megabyte."""


@dataclass
class Server:
    """What the server does, and what it saw."""

    address: str = ""
    contents: bytes = CONTENTS
    break_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off; then they are complete."""
    ranges: bool = True
    status: int = 200
    requests: list[str] = field(default_factory=list)
    """The ``Range`` header of each request, or nothing."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Until it is set, answers stop in the middle."""

    def __post_init__(self) -> None:
        self.gate.set()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.requests.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if state.ranges else 0
            if start and start >= len(state.contents):
                self.send_error(416)
                return
            body = state.contents[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body[: state.break_after.pop(0)] if state.break_after else body
            self.wfile.write(body[: len(body) // 2])
            if not state.gate.wait(60):
                return
            with suppress(ConnectionError):  # who asked may have been killed meanwhile
                self.wfile.write(body[len(body) // 2 :])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}/model.pt"
    yield state
    state.gate.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def entry(server: Server) -> Entry:
    return replace(
        find_entry("vit_b"),
        file="model.pt",
        urls=(server.address,),
        size=len(CONTENTS),
        sha256=hashlib.sha256(CONTENTS).hexdigest(),
    )


def files() -> list[str]:
    folder = cache_folder()
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.exists() else []


def test_download(entry: Entry, server: Server) -> None:
    reports: list[tuple[int, int]] = []
    path = fetch(entry, progress=lambda done, total: reports.append((done, total)))
    assert path == cache_folder() / "model.pt"
    assert path.read_bytes() == CONTENTS
    assert files() == ["model.pt"]
    assert reports[0] == (0, len(CONTENTS))
    assert reports[-1] == (len(CONTENTS), len(CONTENTS))
    assert reports == sorted(reports)
    fetch(entry)
    assert len(server.requests) == 1


def test_broken_connection_is_continued(entry: Entry, server: Server) -> None:
    server.break_after = [300_000, 200_000]
    assert fetch(entry).read_bytes() == CONTENTS
    assert len(server.requests) == 3
    assert server.requests[0] == ""
    assert all(asked.startswith("bytes=") for asked in server.requests[1:])
    assert files() == ["model.pt"]


def test_server_that_goes_away(entry: Entry, server: Server) -> None:
    server.break_after = [200_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"Expected to download the model vit_b.*connection"):
        fetch(entry)
    assert files() == ["model.pt.part"]
    server.break_after = []
    server.requests.clear()
    assert fetch(entry).read_bytes() == CONTENTS
    assert len(server.requests) == 1
    assert 0 < int(server.requests[0].removeprefix("bytes=").rstrip("-")) <= 200_000
    assert files() == ["model.pt"]


def test_cancel_and_continue(entry: Entry, server: Server) -> None:
    done = [0]

    def progress(now: int, _: int) -> None:
        done[0] = now

    with pytest.raises(DownloadCancelled):
        fetch(entry, progress=progress, cancelled=lambda: done[0] > 400_000)
    assert files() == ["model.pt.part"]
    assert find_downloaded(entry) is None
    assert fetch(entry).read_bytes() == CONTENTS
    assert server.requests[1] == f"bytes={done[0]}-"


def test_server_without_ranges_starts_again(entry: Entry, server: Server) -> None:
    server.ranges = False
    server.break_after = [300_000]
    assert fetch(entry).read_bytes() == CONTENTS


@pytest.mark.parametrize("length", [100_000, len(CONTENTS), 2 * len(CONTENTS)])
def test_wrong_remains_are_replaced(entry: Entry, server: Server, length: int) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pt.part").write_bytes(b"\0" * length)
    assert fetch(entry).read_bytes() == CONTENTS
    assert server.requests[-1] == ""
    assert files() == ["model.pt"]


def test_complete_remains_are_used(entry: Entry, server: Server) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pt.part").write_bytes(CONTENTS)
    assert fetch(entry).read_bytes() == CONTENTS
    assert server.requests == [f"bytes={len(CONTENTS)}-"]


@pytest.mark.parametrize("algorithm", ["sha256", "xxh128"])
def test_wrong_contents_are_never_put_in_place(entry: Entry, server: Server, algorithm: str) -> None:
    server.contents = CONTENTS[:-1] + b"x"
    if algorithm == "xxh128":
        entry = replace(entry, sha256=None, xxh128=xxhash.xxh128(CONTENTS).hexdigest())
    with pytest.raises(DownloadError, match="hash is not the published one"):
        fetch(entry)
    assert files() == []
    server.contents = CONTENTS
    assert fetch(entry).read_bytes() == CONTENTS


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refused_by_the_server(entry: Entry, server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=rf"the server answered {status}.*choose it here"):
        fetch(entry)
    assert files() == []


def test_mirror(entry: Entry, server: Server) -> None:
    closed = "http://127.0.0.1:9/model.pt"
    path = fetch(replace(entry, urls=(closed, server.address)))
    assert path.read_bytes() == CONTENTS


def test_no_network(entry: Entry) -> None:
    with pytest.raises(DownloadError, match="the connection failed"):
        fetch(replace(entry, urls=("http://127.0.0.1:9/model.pt",)))


def test_server_that_stalls(entry: Entry, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", (0.2, 0.2))
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/model.pt"
        with pytest.raises(DownloadError, match="did not answer in time"):
            fetch(replace(entry, urls=(address,)))


def test_place_that_cannot_be_written(entry: Entry) -> None:
    (cache_folder() / "model.pt.part").mkdir(parents=True)
    with pytest.raises(DownloadError, match="the file cannot be written"):
        fetch(entry)


def test_truncated_file_in_place_is_not_taken_for_the_model(entry: Entry) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pt").write_bytes(CONTENTS[:-5])
    assert find_downloaded(entry) is None
    assert fetch(entry).read_bytes() == CONTENTS


def test_micro_sam_download_is_used_where_it_lies(entry: Entry, server: Server, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "models" / entry.name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENTS[:-1] + b"x")
    assert find_downloaded(entry) is None
    theirs.write_bytes(CONTENTS)
    assert fetch(entry) == theirs
    assert server.requests == []


def test_use_a_file_i_have(entry: Entry, server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "renamed.bin"
    mine.write_bytes(CONTENTS)
    assert use_file(entry, mine) == cache_folder() / "model.pt"
    assert find_downloaded(entry) == cache_folder() / "model.pt"
    assert files() == ["model.pt"]
    assert server.requests == []
    remove(entry)
    assert files() == []

    mine.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"the hash of renamed.bin is another one"):
        use_file(entry, mine)
    with pytest.raises(ValueError, match="found nothing at"):
        use_file(entry, tmp_path / "missing")
    assert files() == []


class Downloads:
    """Downloads in threads of their own."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pool = ThreadPoolExecutor(4)
        self.stop = threading.Event()
        """Cancels the first."""

    def first(self, at_least: int = 1) -> Future[Path]:
        """Start one and return when some bytes have come."""
        under_way = threading.Event()
        future = self.pool.submit(
            fetch,
            self.entry,
            progress=lambda done, _: under_way.set() if done >= at_least else None,
            cancelled=self.stop.is_set,
        )
        assert under_way.wait(30)
        return future

    def second(self) -> Future[Path]:
        """Start another and return when it has seen how far the first is."""
        seen = threading.Event()
        future = self.pool.submit(fetch, self.entry, progress=lambda *_: seen.set())
        assert seen.wait(30)
        return future


@pytest.fixture
def downloads(entry: Entry, server: Server) -> Iterator[Downloads]:
    server.gate.clear()
    started = Downloads(entry)
    yield started
    server.gate.set()
    started.pool.shutdown()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows locks otherwise")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_who_comes_second_waits_for_the_first(downloads: Downloads, server: Server) -> None:
    started = [downloads.first(), downloads.second()]
    server.gate.set()
    assert [future.result(30).read_bytes() == CONTENTS for future in started] == [True, True]
    assert server.requests == [""]
    assert files() == ["model.pt"]


def test_who_comes_second_takes_over_from_a_first_that_stops(downloads: Downloads, server: Server) -> None:
    first, second = downloads.first(), downloads.second()
    downloads.stop.set()
    server.gate.set()
    with pytest.raises(DownloadCancelled):
        first.result(30)
    assert second.result(30).read_bytes() == CONTENTS
    assert [asked.partition("=")[0] for asked in server.requests] == ["", "bytes"]
    assert files() == ["model.pt"]


def test_waiting_may_be_cancelled(downloads: Downloads, entry: Entry, server: Server) -> None:
    first = downloads.first()
    with pytest.raises(DownloadCancelled):
        fetch(entry, cancelled=lambda: True)
    server.gate.set()
    assert first.result(30).read_bytes() == CONTENTS
    assert server.requests == [""]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_each_downloads_to_a_file_of_its_own(downloads: Downloads, server: Server) -> None:
    started = [downloads.first(200_000), downloads.first(200_000)]
    server.gate.set()
    assert [future.result(30).read_bytes() == CONTENTS for future in started] == [True, True]
    assert server.requests == ["", ""]
    assert files() == ["model.pt"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_one_alone_continues_what_is_left(downloads: Downloads, server: Server) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pt.part").write_bytes(CONTENTS[:1000])
    started = [downloads.first(2000), downloads.first(2000)]
    assert server.requests == ["bytes=1000-", ""]
    downloads.stop.set()
    server.gate.set()
    for future in started:
        with pytest.raises(DownloadCancelled):
            future.result(30)
    assert files() == ["model.pt.part"]
    assert fetch(downloads.entry).read_bytes() == CONTENTS
    assert server.requests[-1].startswith("bytes=")
    assert files() == ["model.pt"]


def test_what_a_killed_process_left_is_continued_at_once(entry: Entry, server: Server) -> None:
    server.gate.clear()
    script = (
        "from dataclasses import replace; from napari_sam.weights.fetch import fetch\n"
        "from napari_sam.weights.registry import find_entry\n"
        f"entry = replace(find_entry('vit_b'), file='model.pt', urls=({server.address!r},))\n"
        "fetch(entry, progress=lambda done, _: done > 200_000 and print('under way', flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"under way"
    process.kill()
    process.communicate()
    server.gate.set()
    assert fetch(entry).read_bytes() == CONTENTS
    assert int(server.requests[1].removeprefix("bytes=").rstrip("-")) > 190_000
    assert files() == ["model.pt"]


def test_remove_takes_all_that_is_left_but_not_from_who_downloads(
    downloads: Downloads, entry: Entry, server: Server
) -> None:
    cache_folder().mkdir(parents=True)
    for name in ("model.pt", "model.pt.part", "model.pt.0123.part", "model.pt.0123.copy", "model.pth"):
        (cache_folder() / name).write_bytes(b"x")
    remove(entry)
    assert files() == ["model.pth"]
    first = downloads.first()
    remove(entry)
    server.gate.set()
    assert first.result(30).read_bytes() == CONTENTS


def test_a_folder_that_cannot_be_made_is_a_clear_error(entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"the file cannot be written \(.*choose it here"):
        fetch(entry)
