"""The mesh's ztunnels: who they are, what they are told, and which identities they may have certificates for.

Composes the resources (`dataplane.ambient.ztunnel`), the cache that the discovery server reads, the certificate service
and the tokens that both know their callers by. The owner of the mesh publishes `resources` for `ALL_ZTUNNELS`; sockets
are the caller's (`DiscoveryServer.serve_tls`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.ca import grpc_service
from peerauth.ca.attest import Caller
from peerauth.ca.grpc_service import CertificateService
from peerauth.ca.node_token import check_token
from peerauth.ca.service import CertificateAuthority
from peerauth.dataplane.ambient.address import ClusterNames
from peerauth.dataplane.ambient.ztunnel import EVERY_ZTUNNEL, ZtunnelResources
from peerauth.dataplane.type_urls import ADDRESS, TypeUrl
from peerauth.identity.spiffe import SpiffeId
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh
from peerauth.policy.outbound import identity_of
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Authenticator, Unauthenticated, bearer_token
from peerauth.xds.stream import Context
from peerauth.xds.wire import ZTUNNEL_NODE, ProxyKey

ALL_ZTUNNELS = ProxyKey(EVERY_ZTUNNEL)
"""The group whose resources every ztunnel has."""


IN_KUBERNETES = ClusterNames()


def ztunnel_key(node: str) -> ProxyKey:
    """The proxy that a node's ztunnel is."""
    return ProxyKey(f"{ZTUNNEL_NODE}{node}")


class ZtunnelFeed:
    """What ztunnels are told of one mesh: `resources`, and what goes with which name."""

    def __init__(self, cache: ResourceCache, *, mesh: Mesh, cluster: ClusterNames = IN_KUBERNETES) -> None:
        self.resources = ZtunnelResources(mesh, cluster=cluster)
        self._cache = cache
        self._mesh = mesh
        cache.relate(ALL_ZTUNNELS, self._related)

    def placed(self, node: str) -> frozenset[SpiffeId]:
        """The identities of the ambient workloads that run on a node: all that its proxy may have certificates for."""
        return frozenset(
            identity_of(self._mesh.world.workloads[key], mesh=self._mesh.world.mesh)
            for key in self.resources.workloads_on(node)
            if self._mesh.decisions.decision(key).dataplane is Dataplane.AMBIENT
        )

    def authenticator(self, *, key: ec.EllipticCurvePublicKey, now: Callable[[], datetime]) -> Authenticator:
        """Tells the discovery server which node's ztunnel a stream is from; `key` verifies the tokens."""

        async def authenticate(context: Context) -> ProxyKey | Unauthenticated:
            caller = check_token(bearer_token(context), key=key, now=now())
            if caller is None or not caller.node:
                return Unauthenticated("no valid token of a node's proxy")
            proxy = ztunnel_key(caller.node)
            self._cache.share(proxy, group=ALL_ZTUNNELS)
            return proxy

        return authenticate

    def certificates(
        self, authority: CertificateAuthority, *, key: ec.EllipticCurvePublicKey, now: Callable[[], datetime]
    ) -> CertificateService:
        """The certificate service for the same callers."""

        async def authenticate(context: grpc_service.Context) -> Caller | None:
            return check_token(bearer_token(context), key=key, now=now())

        return CertificateService(authority, authenticate=authenticate, placed=self.placed)

    def _related(self, type_url: TypeUrl, name: str) -> frozenset[str]:
        if type_url != ADDRESS:
            return frozenset()
        node = name.removeprefix(ZTUNNEL_NODE)
        return self.resources.lookup.related(name) if node == name else self.resources.lookup.on_node(node)
