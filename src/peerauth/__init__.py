"""peerauth: Istio's PeerAuthentication, enforced by real proxies, explained, and proved on live connections.

The packages are layers; ARCHITECTURE.md has the map, and import-linter holds the arrows.
"""
