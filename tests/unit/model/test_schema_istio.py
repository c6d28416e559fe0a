"""Sidecars and DestinationRules: what is read of them."""

from __future__ import annotations

from peerauth.model.inventory import CaptureMode, DestinationRule, EgressListener, IngressListener, PortTls, Sidecar
from samples.documents import only


def test_a_sidecar() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec:\n"
        "  workloadSelector: {labels: {app: x}}\n  ingress:\n"
        "  - {port: {number: 8080, protocol: HTTP, name: h}, defaultEndpoint: '127.0.0.1:9', bind: 127.0.0.2}\n"
        "  egress:\n  - {hosts: ['*/*']}\n  - {port: {number: 1}, bind: 127.0.0.3, captureMode: NONE, hosts: [./x]}\n"
    )
    assert isinstance(found, Sidecar)
    assert found.selector == {("app", "x")}
    origin = found.ingress[0].origin
    assert found.ingress == (IngressListener(8080, "127.0.0.1:9", "127.0.0.2", "HTTP", "h", origin),)
    origins = [listener.origin for listener in found.egress]
    assert found.egress == (
        EgressListener(("*/*",), origin=origins[0]),
        EgressListener(("./x",), 1, "127.0.0.3", capture_mode=CaptureMode.NONE, origin=origins[1]),
    )


def test_a_destination_rule() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  host: h\n"
        "  trafficPolicy:\n    tls: {mode: ISTIO_MUTUAL}\n    portLevelSettings:\n"
        "    - {port: {number: 80}, tls: {mode: DISABLE}}\n    - {port: {number: 81}}\n"
        "  subsets:\n  - {name: v1, trafficPolicy: {tls: {mode: SIMPLE}}}\n  - {name: v2}\n"
    )
    assert isinstance(found, DestinationRule)
    assert found.host == "h"
    origins = [tls.origin for tls in found.tls]
    assert found.tls == (
        PortTls("ISTIO_MUTUAL", origin=origins[0]),
        PortTls("DISABLE", 80, origin=origins[1]),
        PortTls("SIMPLE", subset="v1", origin=origins[2]),
    )
