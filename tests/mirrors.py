"""A server in a thread that truncates, corrupts, stalls, refuses and resumes; a set to fetch."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from diffusion_edu.data.formats import parse_mnist
from diffusion_edu.data.sources import Archive, File, Source

N = 1000  # images: 784,016 bytes of noise, many chunks of the downloader


class Server(ThreadingHTTPServer):
    """http://127.0.0.1:PORT/MODE/NAME gives files[NAME] in the way MODE says; 404 without it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.log, self.done = {}, [], threading.Event()
        self.base = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def modes(self, name=None):
        """Modes asked for so far (for one file), in order."""
        return [mode for mode, file, _ in self.log if name in (None, file)]

    def close(self):
        self.done.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        _, mode, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.log.append((mode, name, asked))
        if name not in self.server.files:
            return self.missing(b"", 0)
        body = self.server.files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        return getattr(self, mode)(body, start)

    def head(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def part(self, body, start, length=None):
        """Status and headers of an honest answer to the request for body[start:]."""
        length = len(body) - start if length is None else length
        where = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        self.head(206 if start else 200, length, **where)

    def good(self, body, start):
        self.part(body, start)
        self.wfile.write(body[start:])

    def slow(self, body, start):
        time.sleep(0.2)
        self.good(body, start)

    def norange(self, body, start):
        self.good(body, 0)

    def half(self, body, start):
        """Breaks off half way through what is left: five of these are not enough."""
        self.part(body, start)
        self.wfile.write(body[start : (start + len(body)) // 2])

    def third(self, body, start):
        """A third of the file with each request."""
        self.part(body, start)
        self.wfile.write(body[start : start + len(body) // 3 + 1])

    def silent(self, body, start):
        """Breaks off without having announced a length: only the known size tells."""
        self.head(200)
        self.wfile.write(body[: len(body) // 2])

    def corrupt(self, body, start):
        """Right length, one bit changed."""
        wrong = bytearray(body)
        wrong[-1] ^= 1
        self.good(bytes(wrong), start)

    def stall(self, body, start):
        self.part(body, start)
        self.wfile.write(body[start : len(body) // 2])
        self.wfile.flush()
        self.server.done.wait(20)

    def mute(self, body, start):
        """Accepts the connection, and nothing more."""
        self.server.done.wait(20)

    def missing(self, body, start):
        self.head(404, 0)

    def broken(self, body, start):
        self.head(503, 0)

    def portal(self, body, start):
        """A login page instead of the file, as in hotels."""
        page = b"<html>Please log in</html>"
        self.head(200, len(page), Content_Type="text/html")
        self.wfile.write(page)

    def endless(self, body, start):
        self.head(200)
        try:
            for _ in range(4000):
                self.wfile.write(bytes(100_000))
        except OSError:
            self.server.log.append(("hung up", "", None))

    def elsewhere(self, body, start):
        """Answers a request for a range with another range of the same length."""
        part = body[7 : 7 + len(body) - start]
        self.head(206, len(part), Content_Range=f"bytes 7-{6 + len(part)}/{len(body)}")
        self.wfile.write(part)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def mini(server: Server, *modes: str) -> Source:
    """A set in MNIST's layout, two archives on mirrors of the given modes."""
    rng = np.random.default_rng(0)
    archives = []
    for name, values in (
        ("images", rng.integers(0, 256, (N, 28, 28))),
        ("labels", rng.integers(0, 10, N)),
    ):
        data = idx(values)
        packed = gzip.compress(data, 1, mtime=0)
        server.files[f"{name}.gz"] = packed
        urls = tuple(f"{server.base}/{mode}/{name}.gz" for mode in modes)
        file = File(name, len(data), sha256(data))
        archives.append(Archive(f"mini/{name}.gz", len(packed), sha256(packed), urls, (file,)))
    files = tuple(archive.files[0] for archive in archives)
    split = {"train": (N, files), "test": (N, files)}
    return Source(
        "mini",
        ("mini", "MINI/raw"),
        (1, 28, 28),
        tuple("0123456789"),
        split,
        tuple(archives),
        parse_mnist,
    )
