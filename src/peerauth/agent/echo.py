"""A small application for examples, tests and the probe: says what it saw and who it is.

TLS that reaches it untouched is answered with a line that says so; HTTP with a small JSON document; anything else is
echoed line by line for as long as the client stays. It never speaks TLS itself.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class EchoApplication:
    """Serves one listening socket (TCP or Unix) until closed: an async context manager."""

    def __init__(self, listener: socket.socket, *, workload: str, server_first: bool = False) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
