"""Envoy's configuration of one sidecar, in Envoy's own messages.

`sidecar` puts the parts together; `inbound`, `hbone` and `outbound` are one direction each; `tls` and `accesslog` are
what they share; `bootstrap` is what an Envoy is started with. Tried against Envoy 1.40.
"""
