"""Small photographs, and a web server that misbehaves on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inversion.data import decode
from tests.data.caches import NAMES


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth random colours, different for every seed."""
    values = np.random.RandomState(seed).randint(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes photographs of different content: ``make_photos("a.png", "train/b.png", root=folder)``."""
    made = 0

    def make(*names: str, root: Path = tmp_path / "photos", width: int = 48, height: int = 40) -> list[Path]:
        nonlocal made
        for name in names:
            made += 1
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(width, height, seed=made).save(path)
        return [root / name for name in names]

    return make


@dataclass
class Server:
    """Serves ``files`` by path. The knobs say how it misbehaves; ``requests`` holds (path, Range header)."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    ignores_range: bool = False
    statuses: list[int] = field(default_factory=list)
    retry_after: str = ""
    announces_length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.requests.append((self.path, asked))
            status = state.statuses.pop(0) if state.statuses else 200
            content = state.files.get(self.path)
            if status != 200 or content is None:
                self.close_connection = True
                self.send_response(status if status != 200 else 404)
                self.send_header("Content-Length", "0")
                if state.retry_after:
                    self.send_header("Retry-After", state.retry_after)
                self.end_headers()
                return
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not state.ignores_range else 0
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            if state.announces_length:
                self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("Connection", "close")
            self.end_headers()
            end = len(content) if state.cut_after is None else begin + state.cut_after
            self.wfile.write(content[begin:end])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local server is reached directly, whatever the machine's proxy is."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def root(tmp_path: Path, make_photos: Callable[..., list[Path]]) -> Path:
    make_photos(*NAMES, root=tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, shorter_side: int) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr(decode, "decode_photo", refuse)
