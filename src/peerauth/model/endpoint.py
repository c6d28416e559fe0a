"""A place to connect to, as it is written down: an address and port, or a socket in the file system."""

from __future__ import annotations

import msgspec


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """A place to connect to: an address literal and port, or the path of a Unix socket (`@name`: abstract)."""

    address: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
