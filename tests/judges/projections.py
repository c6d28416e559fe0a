"""What the readers of a projection have, after all that it told them."""

from __future__ import annotations

from peerauth.dataplane.projection import Update
from peerauth.dataplane.type_urls import TypeUrl


def kept(held: dict[TypeUrl, dict[str, bytes]], news: Update) -> None:
    """Keeps what is news; there is nothing in it that was so before."""
    for kind, bodies in news.resources.items():
        of_kind = held.setdefault(kind, {})
        for name, body in bodies.items():
            assert of_kind.get(name) != body, "what is the same is not told"
            if body is None:
                del of_kind[name]
            else:
                of_kind[name] = body
