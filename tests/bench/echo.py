"""Repeats what it hears on every port of a range: python tests/bench/echo.py FIRST LAST

One thread that waits for the kernel and does nothing else, so that what it adds to a connection is little and always
the same. It says `listening` once it does.
"""

from __future__ import annotations

import selectors
import socket
import sys


def main(first: int, last: int) -> None:
    waiting = selectors.DefaultSelector()
    listeners = [socket.create_server(("", port), backlog=64) for port in range(first, last + 1)]
    for listener in listeners:
        waiting.register(listener, selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in waiting.select():
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if ready in listeners:
                connection, _ = ready.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(connection, selectors.EVENT_READ)
            elif not _repeat(ready):
                waiting.unregister(ready)
                ready.close()


def _repeat(connection: socket.socket) -> bool:
    try:
        data = connection.recv(1 << 16)
        connection.sendall(data)
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
