"""What istiod takes for the changes that bench_scale.py makes: measured elsewhere, given to be set beside.

istiod 1.32-dev on a real API server with 50 and 500 proxies, one client program for all of them, delta discovery,
everything acknowledged; means of 12 changes, of 24 November 2026. A pod that comes and one that goes were one row.
istiod also builds routes, endpoints and telemetry for these bytes, and its processor time is with what the API server's
events cost it.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.scale_mesh import COMES, GOES, OF_MESH, OF_NAMESPACE, OF_WORKLOAD

RECONNECT = "all reconnect"


class Istiod(NamedTuple):
    """Proxies reached, kB sent, milliseconds of processor time."""

    proxies: int
    kilobytes: int
    processor: int


ISTIOD = {
    (OF_WORKLOAD, 50): Istiod(50, 563, 17),
    (OF_WORKLOAD, 500): Istiod(500, 31_975, 284),
    (OF_NAMESPACE, 50): Istiod(50, 533, 20),
    (OF_NAMESPACE, 500): Istiod(500, 31_648, 296),
    (OF_MESH, 50): Istiod(50, 2_351, 33),
    (OF_MESH, 500): Istiod(500, 155_147, 943),
    (COMES, 50): Istiod(50, 171, 7),
    (COMES, 500): Istiod(500, 1_712, 53),
    (GOES, 50): Istiod(50, 171, 7),
    (GOES, 500): Istiod(500, 1_712, 53),
    (RECONNECT, 500): Istiod(500, 169_000, 9_900),
}
"""By kind of change and number of proxies."""
ISTIOD_MB_FOR_EACH = 0.15
"""Memory for each proxy: the slope from 50 to 500."""
