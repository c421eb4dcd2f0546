"""A large file over a bad connection."""

from __future__ import annotations

import hashlib
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inversion import download as module
from inversion.download import download
from inversion.errors import DataError

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(module, "CHUNK_BYTES", 10_000)


@pytest.fixture
def target(tmp_path: Path, server: Any) -> Path:
    server.files["/file.zip"] = CONTENT
    return tmp_path / "new" / "folder" / "file.zip"


def get(server: Any, target: Path, content: bytes = CONTENT) -> None:
    download(f"{server.url}/file.zip", target, len(content), hashlib.sha256(content).hexdigest())


def part(target: Path) -> Path:
    return target.with_name("file.zip.part")


def only(target: Path) -> bool:
    """Whether the target is right and alone in its folder."""
    return target.read_bytes() == CONTENT and list(target.parent.iterdir()) == [target]


def test_a_file_is_downloaded_in_one_piece(server: Any, target: Path) -> None:
    get(server, target)
    assert only(target)
    assert server.requests == [("/file.zip", None)]


@pytest.mark.parametrize("announced", [True, False])
def test_a_connection_that_is_cut_again_and_again_is_resumed(server: Any, target: Path, announced: bool) -> None:
    server.cut_after, server.announces_length = 100_000, announced
    get(server, target)
    assert only(target)
    assert [asked for _, asked in server.requests] == [None, *(f"bytes={n}00000-" for n in range(1, 11))]


def test_a_second_call_goes_on_where_the_first_one_stopped(server: Any, target: Path) -> None:
    server.cut_after = 300_000
    server.statuses = [200, 403]
    with pytest.raises(DataError, match="403"):
        get(server, target)
    assert part(target).stat().st_size == 300_000
    server.cut_after = None
    server.requests.clear()
    get(server, target)
    assert only(target)
    assert server.requests == [("/file.zip", "bytes=300000-")]


def test_a_part_that_is_complete_needs_no_request(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part(target).write_bytes(CONTENT)
    get(server, target)
    assert only(target)
    assert not server.requests


def test_a_part_that_is_too_long_is_thrown_away(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part(target).write_bytes(CONTENT + b"x")
    get(server, target)
    assert only(target)


def test_a_server_that_ignores_the_range_is_read_from_the_start(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part(target).write_bytes(b"y" * 1000)  # not even the right start: it must be overwritten
    server.ignores_range = True
    get(server, target)
    assert only(target)
    assert server.requests == [("/file.zip", "bytes=1000-")]


def test_a_server_that_cuts_and_cannot_resume_is_given_up(server: Any, target: Path) -> None:
    server.ignores_range, server.cut_after = True, 100_000
    with pytest.raises(DataError, match=r"cannot be downloaded .*resumes at 100000 of 1024000 bytes"):
        get(server, target)
    assert len(server.requests) == 1 + module.TRIES


def test_less_than_an_earlier_call_brought_is_no_progress(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part(target).write_bytes(CONTENT[:500_000])
    server.ignores_range, server.cut_after = True, 100_000
    with pytest.raises(DataError, match="cannot be downloaded"):
        get(server, target)
    assert len(server.requests) == module.TRIES


def test_a_server_that_is_busy_for_a_while_is_asked_again(server: Any, target: Path) -> None:
    server.statuses = [503, 429]
    get(server, target)
    assert only(target)


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    server: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("inversion.retry.sleep", pauses.append)
    server.statuses, server.retry_after = [503, 429], "9"
    get(server, target)
    assert only(target)
    assert pauses == [9.0, 9.0]
    target.unlink()
    server.statuses, server.retry_after = [429], "86400"
    with pytest.raises(DataError, match=r"answered 429 Too Many Requests\).*again after 86400 \(its Retry-After\)"):
        get(server, target)
    assert pauses == [9.0, 9.0]


def test_a_server_that_refuses_the_range_is_asked_for_the_whole(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part(target).write_bytes(CONTENT[:1000])
    server.statuses = [416]
    get(server, target)
    assert only(target)


def test_a_missing_file_is_reported_at_once_with_address_and_status(server: Any, target: Path) -> None:
    server.files.clear()
    with pytest.raises(DataError, match=rf"{server.url}/file.zip: the server answered 404"):
        get(server, target)
    assert len(server.requests) == 1
    assert not target.exists()


def test_a_wrong_checksum_removes_the_part_and_names_both(server: Any, target: Path) -> None:
    server.files["/file.zip"] = CONTENT[::-1]
    got = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(DataError, match=rf"{got}, expected {SHA256}"):
        get(server, target)
    assert list(target.parent.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_downloaded(server: Any, target: Path) -> None:
    server.files["/file.zip"] = b"<html>please log in</html>"
    with pytest.raises(DataError, match="a file of 26 bytes, expected 1024000"):
        get(server, target)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_sends_too_much_is_cut_off_and_checked(server: Any, target: Path) -> None:
    server.files["/file.zip"] = CONTENT + b"more"
    server.announces_length = False
    get(server, target)
    assert only(target)


def test_a_target_that_is_right_is_kept_and_a_wrong_one_replaced(server: Any, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    get(server, target)
    assert not server.requests
    target.write_bytes(b"old")
    get(server, target)
    assert only(target)


def test_no_network_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DataError, match=rf"Check the network.*save the file as {tmp_path}/file.zip"):
        download(f"http://127.0.0.1:{port}/file.zip", tmp_path / "file.zip", 10, SHA256)


def test_an_address_that_is_none_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nonsense"):
        download("nonsense", tmp_path / "file.zip", 10, SHA256)


def test_too_little_space_is_noticed_before_the_first_byte(
    server: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    with pytest.raises(DataError, match="data_dir=FOLDER"):
        get(server, target)
    assert not server.requests
    part(target).write_bytes(CONTENT[:1])  # what is there already needs no space
    get(server, target)
    assert only(target)


def test_a_folder_that_cannot_be_written_is_named(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=rf"{tmp_path}/file cannot be written"):
        get(server, tmp_path / "file" / "file.zip")


def test_progress_counts_to_the_full_size_also_after_a_cut(server: Any, target: Path) -> None:
    server.cut_after = 400_000
    told: list[tuple[str, int, int]] = []
    download(f"{server.url}/file.zip", target, len(CONTENT), SHA256, lambda *values: told.append(values))
    done = [values[1] for values in told]
    assert done == sorted(done)
    assert told[-1] == ("downloading file.zip", len(CONTENT), len(CONTENT))
