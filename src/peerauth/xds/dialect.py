"""What kinds of clients there are, as values: which of their types wait for which, and how they ask.

Facts: xDS protocol, "Eventual consistency considerations"; ztunnel passes over a policy that it does not have, so that
what the policy closes is open.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peerauth.dataplane.type_urls import (
    ADDRESS,
    AUTHORIZATION,
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    SECRET,
    WORKLOAD,
    TypeUrl,
)
from peerauth.xds.wire import ZTUNNEL_NODE, ProxyKey


class Dialect(msgspec.Struct, frozen=True):
    """One kind of client.

    - `complete`: a first request that names nothing means "everything" for these types, and a state-of-the-world answer
      lists all there is. Of all other types a resource is only ever asked for by name.
    - `chain`: types in the order in which they are sent. What is new of one waits until the client has acknowledged the
      names that are new to it of those before it, since it may refer to them.
    - `needs`: nothing at all of a type goes out while anything of the other one is unacknowledged or refused.
    - `users`: what is gone of a type is removed once the client has acknowledged all of the types that may refer to it.
    - `resumed_before`: who comes back with something of a type is about to come back with the other one, which has to
      lose what refers to the first.
    - `accompanied`: types whose names bring others along, and of which a client gets what is its own without asking. If
      it wants no wildcard, what it lists as held is what it asks for.
    """

    complete: frozenset[TypeUrl]
    users: Mapping[TypeUrl, tuple[TypeUrl, ...]]
    resumed_before: Mapping[TypeUrl, TypeUrl]
    chain: tuple[TypeUrl, ...] = ()
    needs: Mapping[TypeUrl, TypeUrl] = {}
    accompanied: frozenset[TypeUrl] = frozenset()

    def before(self, type_url: TypeUrl) -> tuple[TypeUrl, ...]:
        """The types that come earlier in the chain."""
        return self.chain[: self.chain.index(type_url)] if type_url in self.chain else ()

    def rank(self, type_url: TypeUrl) -> tuple[int, str]:
        """Where a type stands when several have something to say: after what it may have to wait for."""
        place = self.chain.index(type_url) if type_url in self.chain else int(type_url in self.needs)
        return place, type_url


ENVOY = Dialect(
    complete=frozenset({CLUSTER, LISTENER}),
    chain=(CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET),
    users={
        CLUSTER: (LISTENER, ROUTE),
        ENDPOINT: (LISTENER, ROUTE),
        ROUTE: (LISTENER,),
        SECRET: (LISTENER, CLUSTER),
    },
    resumed_before={CLUSTER: LISTENER},
)

ZTUNNEL = Dialect(
    complete=frozenset({AUTHORIZATION, ADDRESS, WORKLOAD}),
    needs={ADDRESS: AUTHORIZATION, WORKLOAD: AUTHORIZATION},
    users={AUTHORIZATION: (ADDRESS, WORKLOAD)},
    resumed_before={AUTHORIZATION: ADDRESS},
    accompanied=frozenset({ADDRESS, WORKLOAD}),
)


def dialect_of(proxy: ProxyKey) -> Dialect:
    """How the clients of a key speak."""
    return ZTUNNEL if proxy.startswith(ZTUNNEL_NODE) else ENVOY
