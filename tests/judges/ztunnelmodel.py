"""A model of what Istio's ztunnel does with what it is sent: its state, its verdicts, and which connections it cuts.

Written from the facts in wire.md sections 1.2, 1.4 and 1.8, apart from the code that it judges: a policy that is not
there is passed over, a connection keeps the workload that it was opened with, and only an answer with policies makes
ztunnel look at open connections again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION, TypeUrl
from peerauth.proto import authorization_pb2, workload_pb2

MESH_IDENTITY = "cluster.local/ns/foo/sa/web"
NOBODY = ""
SOURCE = "192.0.2.1"


@dataclass(frozen=True)
class Connection:
    """What a verdict is about; `identity` without its scheme, empty for plaintext. `workload` is as it was then."""

    workload: bytes
    address: str
    port: int
    identity: str


def truncated(ports: Iterable[int]) -> list[int]:
    return [port & 0xFFFF for port in ports]


def field_holds(positive: Iterable[bool], negative: Iterable[bool]) -> bool:
    wanted, unwanted = list(positive), list(negative)
    return (not wanted or any(wanted)) and not any(unwanted)


def says(matcher: authorization_pb2.StringMatch, text: str) -> bool:
    match matcher.WhichOneof("match_type"):
        case "exact":
            return text == matcher.exact
        case "prefix":
            return text.startswith(matcher.prefix)
        case "suffix":
            return text.endswith(matcher.suffix)
    return bool(text)


def readable(matchers: Iterable[authorization_pb2.StringMatch]) -> list[authorization_pb2.StringMatch]:
    """Matchers without a kind are dropped without a word."""
    return [each for each in matchers if each.WhichOneof("match_type")]


def networks(addresses: Iterable[authorization_pb2.Address]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for each in addresses:
        if len(each.address) in {4, 16}:
            yield ipaddress.ip_network((each.address, each.length), strict=False)


def match_holds(match: authorization_pb2.Match, connection: Connection) -> bool:
    identity = connection.identity
    namespace = identity.split("/")[2] if identity else ""
    own = tuple(identity.split("/")[2::2]) if identity else ()
    here, there = ipaddress.ip_address(connection.address), ipaddress.ip_address(SOURCE)
    port = connection.port

    def principals(matchers: Iterable[authorization_pb2.StringMatch]) -> list[bool]:
        return [bool(identity) and says(each, identity) for each in readable(matchers)]

    def namespaces(matchers: Iterable[authorization_pb2.StringMatch]) -> list[bool]:
        return [says(each, namespace) for each in readable(matchers)]

    def accounts(matchers: Iterable[authorization_pb2.ServiceAccountMatch]) -> list[bool]:
        return [own == (each.namespace, each.serviceAccount) for each in matchers]

    def ips(matchers: Iterable[authorization_pb2.Address], address: object) -> list[bool]:
        return [address in each for each in networks(matchers)]

    fields = [
        (principals(match.principals), principals(match.not_principals)),
        (namespaces(match.namespaces), namespaces(match.not_namespaces)),
        (accounts(match.service_accounts), accounts(match.not_service_accounts)),
        (ips(match.destination_ips, here), ips(match.not_destination_ips, here)),
        (ips(match.source_ips, there), ips(match.not_source_ips, there)),
        (
            [port == each for each in truncated(match.destination_ports)],
            [port == each for each in truncated(match.not_destination_ports)],
        ),
    ]
    if not any(positive or negative for positive, negative in fields):
        return False  # a match without any field
    return all(field_holds(positive, negative) for positive, negative in fields)


def policy_matches(policy: authorization_pb2.Authorization, connection: Connection) -> bool:
    def rules_hold(rules: authorization_pb2.Rules) -> bool:
        return not rules.matches or any(match_holds(each, connection) for each in rules.matches)

    return any(all(map(rules_hold, group.rules)) for group in policy.groups)


@dataclass
class Ztunnel:
    """State and verdicts. `unknown` collects the policies that were named and not there when a verdict was made."""

    policies: dict[str, authorization_pb2.Authorization] = field(default_factory=dict)
    workloads: dict[str, bytes] = field(default_factory=dict)
    services: dict[str, bytes] = field(default_factory=dict)
    open: set[Connection] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    def take(self, type_url: TypeUrl, resources: Mapping[str, bytes], removed: Iterable[str]) -> None:
        """One answer: its resources, then its removals, as one step."""
        match type_url:
            case _ if type_url == AUTHORIZATION:
                self.policies |= {n: authorization_pb2.Authorization.FromString(b) for n, b in resources.items()}
                for name in removed:
                    self.policies.pop(name, None)
                self.open = {each for each in self.open if self.admits(each)}
            case _ if type_url == ADDRESS:
                for name, body in resources.items():
                    address = workload_pb2.Address.FromString(body)
                    kept = self.workloads if address.HasField("workload") else self.services
                    kept[name] = (
                        address.workload if address.HasField("workload") else address.service
                    ).SerializeToString()
                for name in removed:
                    if self.workloads.pop(name, None) is None:
                        self.services.pop(name, None)

    def read(self, data: bytes) -> tuple[TypeUrl, str]:
        """One answer as it came over the wire; returns its type and nonce."""
        answer = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        type_url = TypeUrl(answer.type_url)
        self.take(type_url, {each.name: each.resource.value for each in answer.resources}, answer.removed_resources)
        return type_url, answer.nonce

    def connection(self, uid: str, port: int, identity: str) -> Connection:
        """As it would be opened now, to the workload's first address."""
        workload = workload_pb2.Workload.FromString(self.workloads[uid])
        address = str(ipaddress.ip_address(workload.addresses[0]))
        return Connection(self.workloads[uid], address, port, identity)

    def dial(self, uid: str, port: int, identity: str) -> bool:
        """Opens a connection if it is admitted."""
        connection = self.connection(uid, port, identity)
        admitted = self.admits(connection)
        if admitted:
            self.open.add(connection)
        return admitted

    def admits(self, connection: Connection) -> bool:
        workload = workload_pb2.Workload.FromString(connection.workload)
        wide = [
            name
            for name, policy in self.policies.items()
            if policy.scope == authorization_pb2.GLOBAL
            or (policy.scope == authorization_pb2.NAMESPACE and policy.namespace == workload.namespace)
        ]
        named = list(workload.authorization_policies)
        self.unknown |= set(named) - self.policies.keys()
        candidates = [self.policies[name] for name in (*wide, *named) if name in self.policies]
        enforced = [policy for policy in candidates if not policy.dry_run]
        if any(policy_matches(each, connection) for each in enforced if each.action == authorization_pb2.DENY):
            return False
        allows = [each for each in enforced if each.action == authorization_pb2.ALLOW]
        return not allows or any(policy_matches(each, connection) for each in allows)
