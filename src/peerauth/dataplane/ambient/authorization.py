"""From decisions to ztunnel's authorizations: the only form in which ztunnel knows mutual TLS.

ztunnel has no modes. It takes every tunnel and every plaintext connection that no policy denies, so a mode is a DENY of
"no peer identity" on the ports that are STRICT. DISABLE cannot be told it, and is not in force in ambient.

A workload names exactly one policy from its first moment, that of its class: the workloads of its namespace that have
its labels, which no PeerAuthentication can tell apart. The name never changes with the decision, the content always
does. That is what lets one answer enforce a change on connections that are already open: ztunnel judges these by the
policy names that the workload had when they were opened (docs/adr/0003). PERMISSIVE is a policy that matches nothing.

Source: wire.md sections 1.6 to 1.8. ztunnel drops a matcher that it cannot read without a word, and a list of matchers
that becomes empty matches everything; nothing is built here from text that could be unreadable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from peerauth.dataplane.ambient.address import packed_addresses
from peerauth.dataplane.resources import serialize
from peerauth.model.inventory import Workload
from peerauth.model.meta import Labels
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.proto import authorization_pb2 as pb

PREFIX = "peerauth-"
_DIGEST_BYTES = 20


def policy_name(namespace: str, labels: Labels) -> str:
    """The resource name of the policy of all workloads of a namespace that have exactly these labels."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for text in (part for pair in sorted(labels) for part in pair):
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return f"{namespace}/{PREFIX}{digest.hexdigest()}"


def policy_name_of(workload: Workload) -> str:
    """The resource name of the policy that a workload has to name."""
    return policy_name(workload.meta.namespace, workload.meta.labels)


def class_policy(name: str, decision: Decision) -> bytes:
    """The policy of one class, by its resource name: what ztunnel must deny to enforce a decision."""
    policy = _policy(name, pb.WORKLOAD_SELECTOR)
    match = _denied(decision)
    if match is not None:
        policy.groups.append(_group(match))
    return serialize(policy)


def relabelled_name(namespace: str) -> str:
    """The resource name of a namespace's policy about workloads whose labels changed while they ran."""
    return f"{namespace}/{PREFIX}relabelled"


def relabelled_policy(namespace: str, relabelled: Iterable[tuple[Workload, Decision]]) -> bytes:
    """The present decisions of workloads that were of another class before, by address.

    Connections from before the change are judged by the name of the class that the workload has left. A policy of
    the namespace is judged for every connection anew, so this one reaches them too.
    """
    policy = _policy(relabelled_name(namespace), pb.NAMESPACE)
    for workload, decision in sorted(relabelled, key=lambda pair: pair[0].key):
        match = _denied(decision)
        addresses = packed_addresses(workload)
        if match is None or not addresses:
            continue  # without an address the group would deny for the whole namespace
        match.destination_ips.extend(pb.Address(address=packed, length=len(packed) * 8) for packed in addresses)
        policy.groups.append(_group(match))
    return serialize(policy)


def _policy(name: str, scope: pb.Scope.ValueType) -> pb.Authorization:
    namespace, _, own = name.partition("/")
    return pb.Authorization(name=own, namespace=namespace, scope=scope, action=pb.DENY)


def _denied(decision: Decision) -> pb.Match | None:
    """What matches the connections that mutual TLS is required of and that have none; None where nothing is required.

    One list of ports says it either way: the ports that are STRICT, or the ports that are not.
    """
    strict = _is_strict(decision.mode)
    exceptions = sorted({entry.port for entry in decision.ports if _is_strict(entry.mode) is not strict})
    if not strict and not exceptions:
        return None
    match = pb.Match()
    match.not_principals.add().presence.SetInParent()
    (match.not_destination_ports if strict else match.destination_ports).extend(exceptions)
    return match


def _is_strict(asked: EffectiveMode) -> bool:
    return Dataplane.AMBIENT.in_force(asked) is EffectiveMode.STRICT


def _group(match: pb.Match) -> pb.Group:
    return pb.Group(rules=[pb.Rules(matches=[match])])
