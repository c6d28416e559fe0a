"""Envoy's discovery protocol: from the bytes of resources to proxies that acknowledged them.

`wire` has the vocabulary and the bytes, `subscription` and `watch` what a client asked for and holds, `session` one
stream as a sans-I/O state machine (events in, commands out), `cache` who gets what, `status` what proxies said, and
`server` is the only file that does I/O. Nothing here knows what a listener contains: bodies are opaque bytes.
"""

from __future__ import annotations
