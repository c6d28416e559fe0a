"""What a sidecar writes about connections: one JSON object a line on standard output.

`event` is `end` once for every connection that ended, whatever became of it (the listener's own log, which alone sees
connections that no filter chain took and handshakes that failed), and `start` for those that reached the workload's
application, when they did. The keys are a contract with `telemetry.envoy`. The format never depends on a mode: it is
part of the listener, and a listener that changes outside its filter chains drops every connection.
"""

from __future__ import annotations

from functools import lru_cache

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.stream.v3 import stream_pb2
from google.protobuf import any_pb2, struct_pb2

from peerauth.dataplane.envoy.tls import packed
from peerauth.model.inventory import WorkloadKey
from peerauth.policy.decision import EffectiveMode, Reason

INBOUND = "inbound"
OUTBOUND = "outbound"
CONNECTION = "connection"
TUNNEL = "tunnel"
"""A CONNECT request inside an HBONE connection; the connection around it has a line of its own."""
METADATA = "peerauth"
"""The key under which filter chains and clusters carry the reason of what they do."""

_TCP = {
    "chain": "%FILTER_CHAIN_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "why_chain": f"%METADATA(LISTENER_FILTER_CHAIN:{METADATA})%",
    "why_cluster": f"%METADATA(CLUSTER:{METADATA})%",
    "source": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "upstream": "%UPSTREAM_HOST%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "upstream_peer": "%UPSTREAM_PEER_URI_SAN%",
    "upstream_tls_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "server_name": "%REQUESTED_SERVER_NAME%",
    "flags": "%RESPONSE_FLAGS%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "started": "%START_TIME(%s.%6f)%",
    "duration_ms": "%DURATION%",
}
_START = ("chain", "cluster", "why_cluster", "source", "destination", "peer", "started", "duration_ms")
"""What is known when a connection starts: lines are a good part of what a short connection costs."""

_HTTP = {
    "authority": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "status": "%RESPONSE_CODE%",
}


def connection_end(workload: WorkloadKey | str, *, direction: str = INBOUND) -> accesslog_pb2.AccessLog:
    """For a listener: one line for each connection that ended."""
    return _stdout({"kind": CONNECTION, "event": "end", **_whose(workload, direction), **_TCP})


def not_handed_on(workload: WorkloadKey | str) -> accesslog_pb2.AccessLog:
    """For an outbound listener: `connection_end`, but for connections that a listener inside the proxy took over.

    That one says what became of them, and where they went.
    """
    log = connection_end(workload, direction=OUTBOUND)
    expression = cel_pb2.ExpressionFilter(
        expression="!has(upstream.address) || !upstream.address.startsWith('envoy://')"
    )
    log.filter.extension_filter.name = "envoy.access_loggers.extension_filters.cel"
    log.filter.extension_filter.typed_config.CopyFrom(packed(expression))
    return log


def connection_start(workload: WorkloadKey) -> accesslog_pb2.AccessLog:
    """For an inbound TCP proxy that flushes its log when connected: one line when the application was reached."""
    log = _stdout(
        {"kind": CONNECTION, "event": "start", **_whose(workload, INBOUND), **{key: _TCP[key] for key in _START}}
    )
    log.filter.log_type_filter.types.append(data_pb2.AccessLogType.TcpUpstreamConnected)
    return log


def tunnel_logs(workload: WorkloadKey) -> list[accesslog_pb2.AccessLog]:
    """For HBONE that logs established tunnels: a line when a CONNECT request is answered 200, one when it ended."""
    whose = {"kind": TUNNEL, **_whose(workload, INBOUND)}
    start = _stdout({"event": "start", **whose, **{key: _TCP[key] for key in _START}, **_HTTP})
    start.filter.log_type_filter.types.append(data_pb2.AccessLogType.DownstreamTunnelSuccessfullyEstablished)
    end = _stdout({"event": "end", **whose, **_TCP, **_HTTP})
    end.filter.log_type_filter.types.append(data_pb2.AccessLogType.DownstreamEnd)
    return [start, end]


def reason_metadata(mode: EffectiveMode, reason: Reason) -> base_pb2.Metadata:
    """The reason of a port's mode, without its line numbers: an edited comment must not touch a proxy."""
    why = struct_pb2.Struct()
    why.update({"mode": mode.value, "level": reason.level.value, "policy": reason.policy})
    return base_pb2.Metadata(filter_metadata={METADATA: why})


def _whose(workload: WorkloadKey | str, direction: str) -> dict[str, str]:
    return {"workload": str(workload), "direction": direction}


def _stdout(fields: dict[str, str]) -> accesslog_pb2.AccessLog:
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.stdout", typed_config=_logger(tuple(fields.items())))


@lru_cache(maxsize=64)
def _logger(fields: tuple[tuple[str, str], ...]) -> any_pb2.Any:
    """One sidecar has the same few many times over, and making them was a third of what rendering it took."""
    shape = struct_pb2.Struct()
    shape.update(dict(fields))
    log = stream_pb2.StdoutAccessLog(
        log_format=substitution_format_string_pb2.SubstitutionFormatString(json_format=shape, omit_empty_values=False)
    )
    return packed(log)
