"""Downloads from servers that misbehave, into disks that are full, by processes that are killed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from states import left

from dltrain.data.io import download
from dltrain.data.io.download import Published, fetch
from dltrain.errors import InputError

CONTENT = os.urandom(300_000)
NAME = "set.bin"
FILES = {NAME: Published(len(CONTENT), hashlib.md5(CONTENT).hexdigest())}
Reply = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """A local server that answers requests by `reply(handler, number of earlier requests)`."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.reply: Reply = whole
        self.stop = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.ranges.append(self.headers.get("Range"))
                outer.reply(self, len(outer.ranges) - 1)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # clients that leave are expected
        self.mirror = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.thread.start()

    def close(self) -> None:
        self.stop.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def send(
    handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str | int
) -> None:
    handler.send_response(status)
    for name, value in {"Content_Type": "application/octet-stream", **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(content)


def whole(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, CONTENT, Content_Length=len(CONTENT))


def ranged(most: int) -> Reply:
    """A server that knows ranges and hangs up after `most` bytes."""

    def reply(handler: BaseHTTPRequestHandler, count: int) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        part = (
            {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        )
        rest = CONTENT[start:]
        send(handler, rest[:most], 206 if asked else 200, Content_Length=len(rest), **part)

    return reply


# Downloads


def test_a_dropped_connection_is_taken_up(server: Server, tmp_path: Path) -> None:
    """Each try continues where the last one ended; the file is whole at the end, and alone."""
    server.reply = ranged(130_000)
    fetch((server.mirror,), FILES, tmp_path)
    assert server.ranges == [None, "bytes=130000-", "bytes=260000-"]
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert left(tmp_path) == {NAME}


def test_a_part_of_another_day_is_taken_up_also_after_a_failure(
    server: Server, tmp_path: Path
) -> None:
    """A mirror that is down costs nothing of what is there."""
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT[:200_000])
    server.reply = lambda handler, count: send(handler, b"", 503)
    with pytest.raises(InputError, match="503"):
        fetch((server.mirror,), FILES, tmp_path)
    server.reply = ranged(len(CONTENT))
    fetch((server.mirror,), FILES, tmp_path)
    assert server.ranges[-1] == "bytes=200000-"
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT[:200_000])
    fetch((server.mirror,), FILES, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [200_000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_damaged_is_redone(size: int, server: Server, tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").write_bytes(bytes(size))
    server.reply = ranged(len(CONTENT))
    fetch((server.mirror,), FILES, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert left(tmp_path) == {NAME}


def test_a_whole_part_needs_no_server(tmp_path: Path) -> None:
    """A process was killed between the last byte and the renaming: nothing is downloaded again."""
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT)
    fetch(("http://127.0.0.1:9/",), FILES, tmp_path)
    assert left(tmp_path) == {NAME}


def portal(handler: BaseHTTPRequestHandler, count: int) -> None:
    page = b"<html>Welcome to the hotel! Please log in.</html>"
    send(handler, page, Content_Type="text/html; charset=utf-8", Content_Length=len(page))


def hidden_portal(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, b"<html>log in</html>")


def other_file(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, bytes(len(CONTENT)), Content_Length=len(CONTENT))


def other_size(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, CONTENT[:-1], Content_Length=len(CONTENT) - 1)


def endless(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, b"")
    while True:
        handler.wfile.write(bytes(2**16))


def drops_at_once(handler: BaseHTTPRequestHandler, count: int) -> None:
    handler.close_connection = True


def no_http(handler: BaseHTTPRequestHandler, count: int) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def elsewhere(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, b"", 302, Location="file:///etc/passwd")


def circle(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, b"", 302, Location=f"/{count}")


def absent(handler: BaseHTTPRequestHandler, count: int) -> None:
    send(handler, b"not here", 404)


BAD: dict[Reply, str] = {
    portal: "does this network ask for a login",
    hidden_portal: "the connection ended after 19 of 300,000 bytes",
    other_file: "another file",
    other_size: "has 299,999 bytes instead of 300,000",
    endless: "another file",
    drops_at_once: "closed connection without response",
    no_http: "BadStatusLine|SSH-2.0",
    elsewhere: "redirection to url 'file:///etc/passwd' is not allowed|HTTP Error 302",
    circle: "infinite loop",
    absent: "404",
}


@pytest.mark.parametrize("reply", BAD, ids=lambda reply: reply.__name__)
def test_a_server_that_misbehaves(reply: Reply, server: Server, tmp_path: Path) -> None:
    """Exit 3 says what came and what to do; no file has the right name; a mirror serves."""
    server.reply = reply
    with pytest.raises(InputError, match=BAD[reply]) as caught:
        fetch((server.mirror,), FILES, tmp_path)
    assert caught.value.exit_code == 3
    assert f"Put these files into {tmp_path}" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5
    assert NAME not in left(tmp_path)
    good = Server()
    fetch((server.mirror, good.mirror), FILES, tmp_path)
    good.close()
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert left(tmp_path) == {NAME}


@pytest.mark.parametrize("drip", [0, 1], ids=["silent", "a byte at a time"])
def test_a_server_that_stalls(
    drip: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time without (nearly) any byte is limited; what came is kept for the next time."""

    def stall(handler: BaseHTTPRequestHandler, count: int) -> None:
        send(handler, CONTENT[:1000], Content_Length=len(CONTENT))
        while not server.stop.wait(0.05):
            handler.wfile.write(b"x" * drip)

    server.reply = stall
    monkeypatch.setattr(download, "STALL_SECONDS", 0.4)
    monkeypatch.setattr(download, "MAX_TRIES", 1)
    monkeypatch.setattr(download, "MIN_BYTES_PER_SECOND", 10_000)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"timed out|has stalled"):
        fetch((server.mirror,), FILES, tmp_path)
    assert time.perf_counter() - start < 5
    assert left(tmp_path) == {f".{NAME}.part"}


class FullDisk(io.BytesIO):
    """Room for 1000 bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_a_disk_that_is_full(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 with path and bytes, before or during the download; no part is left."""
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage._replace(free=299_999))
        with pytest.raises(
            InputError, match=r"takes 300,000 bytes, 299,999 bytes are free: make room"
        ):
            fetch((server.mirror,), FILES, tmp_path)
    assert server.ranges == []
    plain = Path.open

    def opened(path: Path, mode: str = "r", *more: Any, **most: Any) -> Any:
        if path.suffix == ".part" and mode != "rb":
            plain(path, "wb").close()
            return FullDisk()
        return plain(path, mode, *more, **most)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        with pytest.raises(InputError, match=r"there is no room in .*: No space left on device"):
            fetch((server.mirror,), FILES, tmp_path)
    assert left(tmp_path) == set()
    fetch((server.mirror,), FILES, tmp_path)
    assert left(tmp_path) == {NAME}


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written .*paths\.data"):
        fetch((server.mirror,), FILES, tmp_path / "file" / "data")


CHILD = """
import sys
from pathlib import Path
from dltrain.data.io.download import Published, fetch
fetch((sys.argv[1],), {sys.argv[2]: Published(int(sys.argv[3]), sys.argv[4])}, Path(sys.argv[5]))
"""


def child(mirror: str, folder: Path) -> subprocess.Popen[str]:
    known = FILES[NAME]
    argv = [sys.executable, "-c", CHILD, mirror, NAME, str(known.size), known.md5, str(folder)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def test_processes_that_download_the_same_set_at_once(server: Server, tmp_path: Path) -> None:
    """One downloads, and the others wait for it and take what it brought."""
    gate = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler, count: int) -> None:
        gate.wait(20)
        whole(handler, count)

    server.reply = slowly
    children = [child(server.mirror, tmp_path / "data") for _ in range(3)]
    while not server.ranges:
        time.sleep(0.01)
    time.sleep(0.5)
    gate.set()
    for one in children:
        assert one.communicate(timeout=60)[1] == ""
        assert one.returncode == 0
    assert server.ranges == [None]
    assert left(tmp_path / "data") == {NAME}


def test_a_download_that_is_killed_is_taken_up(server: Server, tmp_path: Path) -> None:
    """The next process continues at once: the dead one holds no lock."""

    def half(handler: BaseHTTPRequestHandler, count: int) -> None:
        send(handler, CONTENT[:150_000], Content_Length=len(CONTENT))
        server.stop.wait(60)

    server.reply = half
    first = child(server.mirror, tmp_path)
    part = tmp_path / f".{NAME}.part"
    while not (part.is_file() and part.stat().st_size):
        time.sleep(0.01)
    first.kill()
    first.communicate()
    have = part.stat().st_size
    assert left(tmp_path) == {part.name}
    server.reply = ranged(len(CONTENT))
    fetch((server.mirror,), FILES, tmp_path)
    assert server.ranges[1:] == [f"bytes={have}-"]
    assert (tmp_path / NAME).read_bytes() == CONTENT
