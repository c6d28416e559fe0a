"""The project's own .proto files, wire-compatible with what Istio's ztunnel speaks, and what is generated from them.

`tools/protos.py` generates; nothing here is edited by hand but the .proto files. Field numbers are facts of the
protocol (wire.md sections 1.5, 1.6 and 2.1 in the project's references); names and comments are ours where the wire
does not carry them.
"""
