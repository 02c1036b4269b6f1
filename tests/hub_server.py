"""A server on this machine that speaks the hub's API: models, revisions, ranges of bytes; and misbehaves on demand."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STEP = 1 << 16


@dataclass(frozen=True)
class Content:
    """A file that need not exist.

    Attributes:
        size: Bytes.
        read: Bytes from one place to another.
        etag: Its version.
    """

    size: int
    read: Callable[[int, int], bytes]
    etag: str

    @classmethod
    def of(cls, content: bytes) -> "Content":
        """A file in memory."""
        return cls(len(content), lambda start, stop: content[start:stop], hashlib.sha256(content).hexdigest())


@dataclass(eq=False)
class Hub:
    """What the server holds and what it has served.

    Attributes:
        models: By name, files by path.
        commit: Of all of them.
        served: Bytes of bodies, by model and path.
        asked: Every request: method, path and Range header.
        authorised: The Authorization headers that came.
        fault: Called with the handler before every GET of a file; True when it has answered.
        url: Where it listens.
    """

    models: dict[str, dict[str, Content]] = field(default_factory=dict)
    commit: str = COMMIT
    served: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    authorised: set[str | None] = field(default_factory=set)
    fault: "Callable[[Handler, str, Content], bool] | None" = None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_folder(self, name: str, folder: Path) -> None:
        """Serve the files of a folder as a model."""
        self.models[name] = {
            str(path.relative_to(folder)): Content.of(path.read_bytes()) for path in folder.rglob("*") if path.is_file()
        }

    def bytes_of(self, name: str, ending: str = "") -> int:
        """Bytes served of the files of a model whose path ends so."""
        return sum(
            count for path, count in self.served.items() if path.startswith(f"{name}/") and path.endswith(ending)
        )

    def reset(self) -> None:
        """Forget what was served."""
        self.served.clear()
        self.asked.clear()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    # A write buffer would count bytes as served that nobody took.
    wbufsize = 0

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        """Size and version of a file."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A model's list, or a file or a range of it."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.asked.append((self.command, path, self.headers.get("Range")))
            self.hub.authorised.add(self.headers.get("Authorization"))
        if found := re.fullmatch(r"/api/models/(.+?)/tree/[^/]+", path):
            self._tree(found[1])
        elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
            self._model(found[1])
        elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[3], body=body)
        else:
            self.plain(404)

    def _model(self, name: str) -> None:
        files = self.hub.models.get(name)
        if files is None:
            self.plain(404)
            return
        told = {"id": name, "sha": self.hub.commit, "siblings": [{"rfilename": path} for path in files]}
        self.plain(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _tree(self, name: str) -> None:
        files = self.hub.models.get(name, {})
        told = [{"type": "file", "path": path, "size": each.size, "oid": each.etag} for path, each in files.items()]
        self.plain(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, path: str, *, body: bool) -> None:
        content = self.hub.models.get(name, {}).get(path)
        if content is None:
            self.plain(404)
            return
        if body and self.hub.fault is not None and self.hub.fault(self, f"{name}/{path}", content):
            return
        self.send(f"{name}/{path}", content, body=body)

    def asked_range(self, size: int) -> tuple[int, int] | None:
        """First and last byte that are asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        return None if found is None else (int(found[1]), min(int(found[2] or size), size - 1))

    def send(
        self, key: str, content: Content, *, body: bool = True, cut: int | None = None, etag: str | None = None
    ) -> None:
        """The file, or the range of it that is asked for; cut off after some bytes on demand."""
        asked = self.asked_range(content.size)
        first, last = asked or (0, content.size - 1)
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{etag or content.etag}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("X-Linked-Size", str(content.size))
        self.send_header("X-Linked-Etag", f'"{etag or content.etag}"')
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{content.size}")
        self.end_headers()
        stop = last + 1 if cut is None else min(first + cut, last + 1)
        for start in range(first, stop, STEP) if body else ():
            self.write(key, content.read(start, min(start + STEP, stop)))
        if body and stop <= last:
            self.close_connection = True

    def write(self, key: str, step: bytes) -> None:
        """Some bytes of a body, counted."""
        self.wfile.write(step)
        with self.hub.lock:
            self.hub.served[key] = self.hub.served.get(key, 0) + len(step)

    def plain(self, status: int, text: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """A short answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(ThreadingHTTPServer):
    """Connections that a reader drops are no news."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The server while it runs."""
    server = Server(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
