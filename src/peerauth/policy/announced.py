"""What clients are told of the workloads that have an address, and whom a connection to it is meant for.

Pure. What clients are told follows the decisions, but not always at once (`rollout`): a workload of which nothing was
announced yet is known and cannot be spoken to, and one that is gone is spoken to as it was announced until that is
taken back. Nobody else's word about an address counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.addresses import literals
from peerauth.model.inventory import MACHINE_KINDS, WorkloadKey
from peerauth.model.lookups import AddressIndex
from peerauth.model.world import World
from peerauth.policy.outbound import OutboundPeer, Transport


class DestinationEndpoint(msgspec.Struct, frozen=True):
    """An address and port as they are spoken to. `identity` is whom to expect there, None for plaintext alone."""

    address: str
    port: int
    transport: Transport
    identity: SpiffeId | None = None


class AnnouncedPeers:
    """What clients of one kind were told, by workload and by address. Call `settle` when a workload has changed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._peers: dict[WorkloadKey, OutboundPeer] = {}
        # Addresses that were announced for a workload and that the world does not know it by (any more).
        self._left: dict[WorkloadKey, frozenset[str]] = {}
        self._left_at: AddressIndex[WorkloadKey] = AddressIndex()

    def announce(self, key: WorkloadKey, peer: OutboundPeer | None) -> tuple[OutboundPeer, ...]:
        """Takes in what clients are told of a workload now; returns what is said of it before and after, if it differs.

        None takes everything back.
        """
        before = self._peers.pop(key, None)
        if peer is not None:
            self._peers[key] = peer
        if before == peer:
            return ()
        self.settle(key)
        return tuple(said for said in (before, peer) if said is not None)

    def settle(self, key: WorkloadKey) -> None:
        """Notes where a workload has been announced and is not."""
        workload, peer = self._world.workloads.get(key), self._peers.get(key)
        said, known = peer.addresses if peer else (), workload.addresses if workload else ()
        left = frozenset(literals(said)).difference(literals(known)) if said != known else frozenset[str]()
        before = self._left.pop(key, None)
        if before is not None:
            self._left_at.remove(key, before)
        if left:
            self._left[key] = left
            self._left_at.add(key, left)

    def addresses(self, key: WorkloadKey) -> tuple[str, ...]:
        """The addresses that a workload was announced with."""
        peer = self._peers.get(key)
        return peer.addresses if peer else ()

    def knows(self, address: str) -> bool:
        """Whether some workload has this address, or had it when it was last announced."""
        return bool(self._world.workloads_at(address) or self._left_at.at(address))

    def endpoint(
        self, address: str, port: int, *, among: Collection[WorkloadKey] | None = None
    ) -> DestinationEndpoint | None:
        """How to speak to whoever has an address; None if nothing was announced of anyone who has it.

        Of several (pods share the address of their host's network) it is one that declares the port. A wrong guess is
        refused by the server's name, so that what has a name goes before what has none; pods have their address from
        the node they run on, and go before machines, whose address is whatever their author wrote. `among` None is all
        that have the address.
        """
        claimants = [key for key in (self._known(address) if among is None else among) if self._claims(key, address)]
        if not claimants:
            return None
        chosen = claimants[0] if len(claimants) == 1 else min(claimants, key=lambda key: self._rank(key, port))
        peer = self._peers[chosen]
        transport = peer.transport_to(port) if peer.exceptions else peer.transport
        named = None if transport is Transport.PLAINTEXT else peer.identity
        return DestinationEndpoint(address, port, transport, named)

    def _known(self, address: str) -> Iterator[WorkloadKey]:
        """Whoever may have been announced with an address."""
        yield from (workload.key for workload in self._world.workloads_at(address))
        yield from self._left_at.at(address)

    def _claims(self, key: WorkloadKey, address: str) -> bool:
        peer = self._peers.get(key)
        return peer is not None and (address in peer.addresses or address in literals(peer.addresses))

    def _rank(self, key: WorkloadKey, port: int) -> tuple[object, ...]:
        workload, peer = self._world.workloads.get(key), self._peers[key]
        unnamed = peer.transport_to(port) is Transport.PLAINTEXT
        if workload is None:
            return True, key.kind in MACHINE_KINDS, True, True, unnamed, peer.identity, key
        undeclared = all(own.number != port for own in workload.ports)
        return False, key.kind in MACHINE_KINDS, workload.terminating, undeclared, unnamed, peer.identity, key
