"""Envoy's discovery protocol: from the bytes of resources to proxies that acknowledged them.

`wire` has the vocabulary and the bytes. One stream is a sans-I/O state machine (events in, commands out): `session` is
its dialogue, `subscription` what the client asked for of a type, `names` the state of each name, `delivery` what there
is to say of a type, `forms` how either variant writes it, `order` which type waits for which, by the `dialect` of the
kind of client. `cache` says who gets what, `on_demand` what is got only by asking, `status` what proxies said; `server`
and `stream` do the I/O. Nothing here knows what a listener contains: bodies are opaque bytes.
"""

from __future__ import annotations
