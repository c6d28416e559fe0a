"""A source of what is on demand that a test fills."""

from __future__ import annotations

from collections.abc import Mapping

from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, TypeUrl


class Source:
    """What there is on demand: `bodies` by type and name. Names of that kind begin with `dst|`.

    `asked` are the names that somebody wants, and `looked` counts how often it was asked what one is.
    """

    def __init__(self) -> None:
        self.bodies: dict[tuple[TypeUrl, str], bytes] = {}
        self.asked: set[str] = set()
        self.looked = 0

    def put(self, bodies: Mapping[tuple[TypeUrl, str], bytes | None]) -> None:
        """Makes these names what is given; None: nothing."""
        for at, body in bodies.items():
            if body is None:
                self.bodies.pop(at, None)
            else:
                self.bodies[at] = body

    def get(self, type_url: TypeUrl, name: str) -> bytes | None:
        assert name in self.asked
        self.looked += 1
        return self.bodies.get((type_url, name))

    def serves(self, type_url: TypeUrl, name: str) -> bool:
        return type_url in {CLUSTER, ENDPOINT} and name.startswith("dst|")

    def ask(self, name: str) -> None:
        assert name not in self.asked
        self.asked.add(name)

    def drop(self, name: str) -> None:
        self.asked.remove(name)
