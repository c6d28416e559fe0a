"""Who has an address, whom a selector selects, which slices a Service has: what outbound connections ask.

Look-ups of workloads are made on the first question, so that those who never ask do not pay for them, and kept up to
date from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from peerauth.model.addresses import literals
from peerauth.model.changes import MeshObject
from peerauth.model.inventory import EndpointSlice, Service, Workload, WorkloadKey
from peerauth.model.meta import Labels
from peerauth.model.selectors import LabelIndex
from peerauth.model.tables import Name, name_of

T = TypeVar("T")


class AddressIndex(Generic[T]):
    """Keys by the literal addresses they have; names among the addresses are passed over."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[T, ...]] = {}

    def add(self, key: T, addresses: Iterable[str]) -> None:
        """Files a key under each of its addresses."""
        for address in literals(addresses):
            self._keys[address] = (*self._keys.get(address, ()), key)

    def remove(self, key: T, addresses: Iterable[str]) -> None:
        """Takes a key out that was filed under these addresses."""
        for address in literals(addresses):
            left = tuple([other for other in self._keys[address] if other != key])
            if left:
                self._keys[address] = left
            else:
                del self._keys[address]

    def at(self, address: str) -> tuple[T, ...]:
        """The keys that have an address, which is canonical, in the order of filing."""
        return self._keys.get(address, ())


class WorkloadLookups:
    """The workloads of a table by address and by labels. Call `put` and `drop` with what the table takes and gives."""

    def __init__(self, table: Mapping[WorkloadKey, Workload]) -> None:
        self._table = table
        self._by_address: AddressIndex[WorkloadKey] | None = None
        self._by_labels: LabelIndex[WorkloadKey] | None = None

    def put(self, workload: Workload) -> None:
        """Takes in a workload that the table has just taken."""
        if self._by_address is not None:
            self._by_address.add(workload.key, workload.addresses)
        if self._by_labels is not None:
            self._by_labels.add(workload.key, namespace=workload.meta.namespace, labels=workload.meta.labels)

    def drop(self, workload: Workload) -> None:
        """Takes out a workload that the table has just given up."""
        if self._by_address is not None:
            self._by_address.remove(workload.key, workload.addresses)
        if self._by_labels is not None:
            self._by_labels.remove(workload.key, namespace=workload.meta.namespace, labels=workload.meta.labels)

    def at(self, address: str) -> tuple[Workload, ...]:
        """The workloads that have an address, which is canonical."""
        if self._by_address is None:
            self._by_address = AddressIndex()
            for workload in self._table.values():
                self._by_address.add(workload.key, workload.addresses)
        return tuple([self._table[key] for key in self._by_address.at(address)])

    def selected(self, selector: Labels, *, namespace: str) -> Iterator[Workload]:
        """The workloads of a namespace that a selector selects; none if it is empty."""
        if self._by_labels is None:
            self._by_labels = LabelIndex()
            for key, workload in self._table.items():
                self._by_labels.add(key, namespace=key.namespace, labels=workload.meta.labels)
        return (self._table[key] for key in self._by_labels.selected(selector, namespace=namespace))


class Lookups:
    """All of them. Call `put` and `drop` with each object that a world has just taken or given up."""

    def __init__(self, workloads: Mapping[WorkloadKey, Workload]) -> None:
        self.workloads = WorkloadLookups(workloads)
        self._services_at: AddressIndex[Name] = AddressIndex()
        self._slices_of: dict[Name, dict[Name, None]] = {}

    def services_at(self, address: str) -> Collection[Name]:
        """The Services that have a virtual address, which is canonical, in the order in which they came."""
        return self._services_at.at(address)

    def slices_of(self, service: Name) -> Collection[Name]:
        """The EndpointSlices of a Service, in any order."""
        return self._slices_of.get(service, ())

    def put(self, obj: MeshObject) -> None:
        match obj:
            case Workload():
                self.workloads.put(obj)
            case Service():
                self._services_at.add(name_of(obj), obj.cluster_ips)
            case EndpointSlice():
                self._slices_of.setdefault(Name(obj.meta.namespace, obj.service), {})[name_of(obj)] = None

    def drop(self, obj: MeshObject) -> None:
        match obj:
            case Workload():
                self.workloads.drop(obj)
            case Service():
                self._services_at.remove(name_of(obj), obj.cluster_ips)
            case EndpointSlice():
                slices = self._slices_of[service := Name(obj.meta.namespace, obj.service)]
                del slices[name_of(obj)]
                if not slices:
                    del self._slices_of[service]
