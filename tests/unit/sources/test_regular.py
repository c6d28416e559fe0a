"""Only regular files are read, and nothing that is put among them can hold up who reads."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerauth.errors import SourceError
from peerauth.model.schema.faults import UNREADABLE
from peerauth.sources import regular
from peerauth.sources.files import documents, load
from peerauth.sources.regular import has_writer, read_named, read_regular
from rigs.followed import first_of
from samples.manifests import namespace, pod

AT_MOST_S = 20
PEERAUTH = (sys.executable, "-c", "from peerauth.cli.main import main; main()")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(namespace())
    (tmp_path / "p.yaml").write_text(pod())
    return tmp_path


@contextlib.contextmanager
def odd(kind: str, path: Path) -> Iterator[None]:
    """Something by this name that is no regular file."""
    with contextlib.ExitStack() as stack:
        match kind:
            case "a pipe":
                os.mkfifo(path)
            case "a socket":
                stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
            case "a device":
                path.symlink_to("/dev/zero")
            case _:
                path.symlink_to("nowhere")
        yield


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
async def test_what_is_no_file_is_named_wherever_it_is(folder: Path, kind: str) -> None:
    path = folder / "x.yaml"
    with odd(kind, path):
        (fault,) = load([str(folder)]).diagnostics
        assert (fault.code, fault.origin.file) == (UNREADABLE.code, str(path))
        assert kind in fault.message
        (fault,) = (await first_of(folder)).held
        assert (fault.code, fault.origin.file) == (UNREADABLE.code, str(path))
        with pytest.raises(SourceError, match=f"{path} is {kind}"):
            load([str(path)])


def test_a_link_that_leads_nowhere_is_named_and_the_rest_is_read(folder: Path) -> None:
    (folder / "x.yaml").symlink_to("nowhere")
    (folder / "y.yaml").symlink_to("y.yaml")
    loaded = load([str(folder)])
    assert [each.origin.file for each in loaded.diagnostics] == [str(folder / "x.yaml"), str(folder / "y.yaml")]
    assert len(loaded.objects) == 2


async def test_a_pipe_that_was_named_is_read_to_its_end_by_those_who_allow_it(folder: Path) -> None:
    path = folder / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("w") as pipe:
            for piece in (namespace()[:20], namespace()[20:]):
                pipe.write(piece)
                pipe.flush()

    async with asyncio.timeout(AT_MOST_S):
        writing = asyncio.to_thread(write)
        found, _ = await asyncio.gather(asyncio.to_thread(lambda: list(documents([str(path)], pipes=True))), writing)
    assert [len(document.objects) for document in found] == [1]


def test_a_pipe_that_nobody_writes_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "WRITER_SECONDS", 0.0)
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceError, match="nobody writes"):
        read_named(str(folder / "pipe"), pipes=True)


def test_a_writer_is_seen_as_long_as_it_has_the_file_open(folder: Path) -> None:
    path = folder / "a.yaml"
    assert not read_regular(str(path)).in_writing
    with path.open("a"):
        assert read_regular(str(path)).in_writing
    assert not read_regular(str(path)).in_writing
    with path.open() as reader:
        assert not read_regular(str(path)).in_writing
        assert not has_writer(reader.fileno())


def test_where_the_system_does_not_tell_nobody_is_taken_for_a_writer(folder: Path) -> None:
    with (folder / "a.yaml").open("rb") as reader, socket.socket() as other:
        assert not has_writer(reader.fileno())
        assert not has_writer(other.fileno())


def test_a_lease_that_a_server_does_not_give_says_nothing_about_writers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS without a delegation: otherwise nothing that is read there could ever be followed."""
    device = (folder / "a.yaml").stat().st_dev
    mount = f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime - nfs4 server:/export rw\n"
    regular._is_remote.cache_clear()
    with (folder / "a.yaml").open("a") as file:
        monkeypatch.setattr(Path, "read_text", lambda self, *arguments: mount)
        assert not read_regular(file.name).in_writing
        regular._is_remote.cache_clear()
        monkeypatch.setattr(Path, "read_text", lambda self, *arguments: mount.replace("nfs4", "ext4"))
        assert read_regular(file.name).in_writing
    regular._is_remote.cache_clear()


async def ended(*arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(*PEERAUTH, *arguments), stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(AT_MOST_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_every_command_names_a_pipe_among_the_files_and_ends(folder: Path) -> None:
    os.mkfifo(folder / "x.yaml")
    for arguments in (("explain", "-f"), ("check", "-f"), ("up", "--once", "--state", str(folder / "state"))):
        code, said = await ended(*arguments, str(folder))
        assert (code, "x.yaml" in said and "is a pipe, not a file" in said) == (
            2 if arguments[0] != "check" else 1,
            True,
        )
    for path in (folder, folder / "x.yaml"):
        code, said = await ended("up", str(path), "--state", str(folder / "state"))
        assert (code, "is a pipe, not a file" in said) == (2, True), said


async def test_explain_reads_what_a_shell_substitutes_and_standard_input_by_its_device(folder: Path) -> None:
    command = " ".join(f"'{part}'" for part in PEERAUTH)
    for line in (
        f"{command} explain -f <(sleep .1; cat p.yaml)",
        f"cat p.yaml | {command} explain -f /dev/stdin",
    ):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", line), cwd=folder, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(AT_MOST_S):
            said, _ = await process.communicate()
        assert (process.returncode, b"foo/finance" in said) == (0, True)


async def test_up_that_waits_for_standard_input_is_ended_by_sigterm(folder: Path) -> None:
    read, write = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(*PEERAUTH, "up", "-", "--state", str(folder / "state")),
            stdin=read,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.write(write, b"kind")
        async with asyncio.timeout(AT_MOST_S):
            while struct.unpack("i", fcntl.ioctl(read, termios.FIONREAD, bytes(4))) != (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # until it has been read, and more is waited for
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(AT_MOST_S):
            await process.wait()
    finally:
        os.close(read)
        os.close(write)
