"""Who says something never waits for who reads it, and who reads is told what is missing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerauth.cli.outlet import Outlet, outlets

ROOM = 10_000
LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds one page: where to read and where to write."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    yield ours, theirs
    os.close(theirs)
    with contextlib.suppress(OSError):  # a test has closed it
        os.close(ours)


def read_until(descriptor: int, end: str) -> str:
    """All that comes, up to a text."""
    read = ""
    while end not in read:
        part = os.read(descriptor, 65536).decode()
        assert part, f"the pipe ended before {end!r} came: {read[-200:]!r}"
        read += part
    return read


def test_a_pipe_that_nobody_reads_holds_no_one_up_and_the_gap_is_said_once_at_its_place(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    outlet = Outlet(theirs, room=ROOM)
    outlet.promise(LINE * 50)  # more than the pipe holds: from here on, writing waits
    for number in range(5000):
        outlet.say(f"{number:04} {LINE}")
    read = read_until(ours, " dropped: nobody read them\n")
    outlet.deliver(seconds=30)
    outlet.say("somebody reads again\n")
    after = read_until(ours, "again\n")
    lines = read.splitlines()[50:]
    kept = len(lines) - 1
    assert [line[:4] for line in lines[:-1]] == [f"{number:04}" for number in range(kept)]
    assert lines[-1] == f"... {5000 - kept:,} lines were dropped: nobody read them"
    assert after == "somebody reads again\n"


def test_a_result_is_written_whole_to_a_slow_reader(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    outlet = Outlet(theirs, room=ROOM)
    outlet.promise(LINE * 5000 + "the end\n")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(read_until(ours, "the end\n")))
    reader.start()
    outlet.deliver(seconds=None)
    reader.join()
    assert read == [LINE * 5000 + "the end\n"]


def test_a_reader_who_is_gone_is_told_nothing_more(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    outlet = Outlet(theirs, room=ROOM)
    os.close(ours)
    outlet.say(LINE)
    with pytest.raises(BrokenPipeError):
        outlet.deliver(seconds=30)
    outlet.say(LINE)
    assert outlet.idle


def test_a_disk_that_is_full_costs_the_lines_that_it_had_no_room_for() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full, room=ROOM)
    outlet.promise(LINE)
    with pytest.raises(OSError, match="No space left"):
        outlet.deliver(seconds=30)
    os.close(full)


def test_only_the_newest_picture_is_drawn(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    outlet = Outlet(theirs, room=ROOM)
    outlet.promise(LINE * 100)  # more than the pipe holds
    for number in range(3):
        outlet.show(lambda number=number: f"picture {number}\n")  # type: ignore[misc]
    assert not outlet.idle
    assert read_until(ours, "picture 2\n").count("picture") == 1


def test_both_streams_keep_their_order_where_they_are_one_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as both:
        kept = os.dup(1), os.dup(2)
        os.dup2(both.fileno(), 1), os.dup2(both.fileno(), 2)
        try:
            out, err = _outlets_of_descriptors()
            for number in range(100):
                (out, err)[number % 2].say(f"{number}\n")
            out.deliver(seconds=30)
            err.deliver(seconds=30)
        finally:
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
            for each in kept:
                os.close(each)
    assert file.read_text().split() == [str(number) for number in range(100)]


def _outlets_of_descriptors() -> tuple[Outlet, Outlet]:
    """As a process has them, whatever pytest has made of its streams."""
    ours = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    try:
        return outlets()
    finally:
        sys.stdout, sys.stderr = ours


def test_a_process_whose_output_nobody_reads_ends(pipe: tuple[int, int]) -> None:
    code = (
        "import sys\nfrom peerauth.cli.outlet import outlets, last_words\n"
        "out, err = outlets()\n"
        f"for _ in range(10_000):\n    out.say({LINE!r})\n    err.say({LINE!r})\n"
        "out.close()\nerr.close()\nlast_words('interrupted\\n')\nsys.exit(7)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, stdout=pipe[1], stderr=pipe[1], timeout=60)
    assert ended.returncode == 7


def test_a_stream_that_was_closed_before_the_start_is_not_written_to(tmp_path: Path) -> None:
    """Its number may belong to another file by then."""
    (tmp_path / "run.py").write_text(
        "import os\nfrom peerauth.cli.outlet import outlets\n"
        f"victim = os.open({str(tmp_path / 'victim')!r}, os.O_WRONLY | os.O_CREAT)\nassert victim == 1\n"
        "out, err = outlets()\nout.say('here\\n')\nout.close()\n"
    )
    subprocess.run(["sh", "-c", f"exec {sys.executable} {tmp_path / 'run.py'} >&-"], check=True)
    assert (tmp_path / "victim").read_bytes() == b""


DIVERTED = (
    "import os\nfrom peerauth.cli.outlet import Diverted, outlets\nout, err = outlets()\ndiverted = Diverted(err)\n"
    "for _ in range(3000):\n    os.write(2, b'a library \\x1b[2J' + b'x' * 90 + b'\\n')\n"
    "diverted.end()\nerr.close()\nos.write(2, b'the end\\n')\n"
)


def test_what_a_library_writes_itself_is_made_visible_and_arrives() -> None:
    ended = subprocess.run([sys.executable, "-c", DIVERTED], check=True, stderr=subprocess.PIPE, timeout=60)
    *lines, last = ended.stderr.decode().splitlines()
    assert last == "the end"
    assert lines[0] == r"a library \x1b[2J" + "x" * 90
    assert len([line for line in lines if "a library" in line]) + sum(map(dropped, lines)) == 3000


def test_what_a_library_writes_itself_holds_no_one_up_where_nobody_reads(pipe: tuple[int, int]) -> None:
    code = DIVERTED.replace("os.write(2, b'the end\\n')\n", "")
    ended = subprocess.run([sys.executable, "-c", code], check=False, stderr=pipe[1], timeout=60)
    assert ended.returncode == 0


def dropped(line: str) -> int:
    """How many lines one says are missing."""
    return int(line.split()[1].replace(",", "")) if "dropped" in line else 0
