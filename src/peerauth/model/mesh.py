"""The parts of Istio's MeshConfig that decide about connections, and the configurations of several revisions.

Source: Istio's MeshConfig reference: `rootNamespace`, `trustDomain`, `trustDomainAliases`, `enableAutoMtls`,
`meshMTLS`, `protocolDetectionTimeout`, `discoverySelectors`, `defaultConfig.interceptionMode`,
`outboundTrafficPolicy`; its charts and installation guide for revisions and tags, and for what an injector writes where
a pod says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

import msgspec

from peerauth.model.meta import NOWHERE, Labels, Origin, label_value

DEFAULT_REVISION = "default"
"""The revision of an istiod that was installed without one; Istio's charts give it this name."""


class TlsVersion(StrEnum):
    """`meshMTLS.minProtocolVersion`; TLS_AUTO is 1.2, as in Istio."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-SHA",
    "AES128-SHA",
)
"""The names that Envoy knows below TLS 1.3: with any other it refuses the whole listener."""


class Operator(StrEnum):
    """How a requirement compares a label's value."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One condition on a namespace's labels; `matchLabels` are conditions with IN and one value."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds_for(self, namespace: str, labels: Labels | None) -> bool | None:
        """Whether a namespace fulfils it; None if that hangs on labels, and these are not known."""
        value = namespace if self.key == NAME_LABEL else None
        if value is None:
            if labels is None:
                return None
            value = label_value(labels, self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


NAME_LABEL = "kubernetes.io/metadata.name"
"""The API server puts it on every namespace, whatever a manifest says."""

Selector = tuple[Requirement, ...]
"""Requirements that must all hold; none is everything."""


class Redirection(msgspec.Struct, frozen=True, gc=False):
    """What sidecars get of incoming connections where a pod says nothing of it: nothing if not `intercepts`, else the
    ports of `included` (`*` is all) without those of `excluded`. Lists are texts, as Istio's annotations are.
    """

    intercepts: bool = True
    included: str = "*"
    excluded: str = ""


class OutboundTraffic(StrEnum):
    """`outboundTrafficPolicy.mode`: what becomes of connections to addresses that the mesh knows nothing of.

    ALLOW_ANY: they go there as the application made them. REGISTRY_ONLY: nowhere.
    """

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class MeshConfig(msgspec.Struct, frozen=True, gc=False):
    """The configuration of one revision. `cipher_suites` empty means the proxies' default list.

    `protocol_detection_timeout` is how long a PERMISSIVE port waits for the first bytes of a client that may be
    silent (a server-first protocol) before it is treated as plaintext. `discovery_selectors` empty reads everything.
    """

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    enable_auto_mtls: bool = True
    min_tls_version: TlsVersion = TlsVersion.TLS_AUTO
    cipher_suites: tuple[str, ...] = ()
    protocol_detection_timeout: timedelta = timedelta(seconds=5)
    discovery_selectors: tuple[Selector, ...] = ()
    redirection: Redirection = Redirection()
    outbound_traffic: OutboundTraffic = OutboundTraffic.ALLOW_ANY
    revision: str = DEFAULT_REVISION
    origin: Origin = NOWHERE

    def reads(self, namespace: str, labels: Labels | None) -> bool | None:
        """Whether istiod reads what stands in a namespace: if any selector matches. The root namespace is no exception.

        `labels` None is a namespace of which nothing is known: the answer is None where it hangs on them.
        """
        if not self.discovery_selectors:
            return True
        answers = [_all([each.holds_for(namespace, labels) for each in one]) for one in self.discovery_selectors]
        return True if True in answers else None if None in answers else False


def _all(answers: list[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


DEFAULT_MESH = MeshConfig()


class Injector(msgspec.Struct, frozen=True, gc=False):
    """A webhook that has the sidecars of one revision injected. `tag` is the name that leads to it, if not its own."""

    revision: str
    tag: str = ""
    origin: Origin = NOWHERE


class Meshes(msgspec.Struct, frozen=True):
    """The mesh configurations by revision, the tags that lead to revisions, and which revisions have an injector."""

    configs: Mapping[str, MeshConfig] = {}
    tags: Mapping[str, str] = {}
    injecting: frozenset[str] = frozenset()

    @property
    def default(self) -> str:
        """The revision of whatever names none: what the tag `default` leads to, else `default`.

        The only configuration that was given, under whatever name, is the default's.
        """
        named = self.tags.get(DEFAULT_REVISION)
        if named is not None:
            return named
        if len(self.configs) == 1 and DEFAULT_REVISION not in self.injecting:
            return next(iter(self.configs))
        return DEFAULT_REVISION

    def named(self, name: str) -> str:
        """The revision that a label's value leads to, as it is or as a tag; the default for ''."""
        return self.tags.get(name, name) if name else self.default

    def of(self, revision: str) -> MeshConfig:
        """The configuration of a revision; the default's where its own is not known."""
        return self.configs.get(revision) or self.configs.get(self.default) or DEFAULT_MESH

    def knows(self, revision: str) -> bool:
        """Whether the input shows that there is such a revision."""
        return revision in self.configs or revision in self.injecting or revision in self.tags.values()

    def having(self, obj: MeshConfig | Injector) -> Meshes:
        """The same with one more, or another in its place."""
        if isinstance(obj, MeshConfig):
            return msgspec.structs.replace(self, configs={**self.configs, obj.revision: obj})
        if obj.tag:
            return msgspec.structs.replace(self, tags={**self.tags, obj.tag: obj.revision})
        return msgspec.structs.replace(self, injecting=self.injecting | {obj.revision})

    def without(self, obj: MeshConfig | Injector) -> Meshes:
        """The same without one that it has."""
        if isinstance(obj, MeshConfig):
            return msgspec.structs.replace(self, configs=_without(self.configs, obj.revision))
        if obj.tag:
            return msgspec.structs.replace(self, tags=_without(self.tags, obj.tag))
        return msgspec.structs.replace(self, injecting=self.injecting - {obj.revision})


def meshes_of(objects: Iterable[object]) -> Meshes:
    """What some objects say of mesh configurations and revisions."""
    meshes = Meshes()
    for obj in objects:
        meshes = meshes.having(obj) if isinstance(obj, MeshConfig | Injector) else meshes
    return meshes


T = TypeVar("T")


def _without(entries: Mapping[str, T], name: str) -> dict[str, T]:
    return {each: entry for each, entry in entries.items() if each != name}
