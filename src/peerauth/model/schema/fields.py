"""Types of fields that documents of several kinds have: ports, names, labels, addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from peerauth.model.addresses import is_address, is_network
from peerauth.model.schema import names
from peerauth.model.schema.description import Rule, Trouble, extra, text_rule
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE
from peerauth.model.schema.place import Mapping

HIGHEST_PORT = 65535
_SUBDOMAIN = "lower-case letters, digits, '-' and '.', at most 253"
_DNS_LABEL = "lower-case letters, digits and '-', at most 63"
_LABEL_KEY = "at most 63 letters, digits, '-', '_' and '.', which may follow a DNS name and a slash"
_LABEL_VALUE = "at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end"


def _annotations_troubles(entries: Mapping) -> Iterator[Trouble]:
    if not _are_within_the_limit({key: text for key, text in entries.items() if isinstance(text, str)}):
        message = f"the annotations have more than {names.LARGEST_ANNOTATIONS >> 10} KiB together"
        yield Trouble(INVALID_VALUE, message, at_key=True)


def _are_within_the_limit(entries: dict[str, str]) -> bool:
    """Whether keys and values of annotations are not too large together."""
    return names.size_of("".join((*entries, *entries.values()))) <= names.LARGEST_ANNOTATIONS


SUBDOMAIN = text_rule(INVALID_NAME, names.is_subdomain, f"is not a name: {_SUBDOMAIN}")
_NAME = text_rule(INVALID_NAME, names.matches_subdomain, f"is not a name: {_SUBDOMAIN}")
_ACCOUNT = text_rule(INVALID_NAME, names.is_subdomain, f"is not a name: {_SUBDOMAIN}", or_empty=True)
_NO_NAMESPACE = f"is not a namespace: {_DNS_LABEL}"
_NAMESPACE = text_rule(INVALID_NAME, names.is_dns_label, _NO_NAMESPACE)
_NAMESPACE_OR_EMPTY = text_rule(INVALID_NAME, names.is_dns_label, _NO_NAMESPACE, or_empty=True)
_SERVICE = text_rule(INVALID_NAME, names.is_dns_label, f"is not the name of a Service: {_DNS_LABEL}")
_ADDRESS = text_rule(INVALID_VALUE, is_address, "is not an IP address", or_empty=True)
_NETWORK, _NETWORK_OR_EMPTY = (
    text_rule(
        INVALID_VALUE,
        is_network,
        "is not a block of addresses",
        hint="an address and a length, such as 10.0.0.0/8",
        or_empty=or_empty,
    )
    for or_empty in (False, True)
)
_KEY_OF_LABEL = text_rule(INVALID_NAME, names.is_label_key, f"is not the key of a label: {_LABEL_KEY}")
_VALUE_OF_LABEL = text_rule(INVALID_NAME, names.is_label_value, f"is not the value of a label: {_LABEL_VALUE}")
_KEY_OF_ANNOTATION = text_rule(INVALID_NAME, names.is_annotation_key, f"is not the key of an annotation: {_LABEL_KEY}")

Port = Annotated[int, Meta(ge=1, le=HIGHEST_PORT, extra=extra(wanted="a port number", hint="write it without quotes"))]
PortOrName = Port | Annotated[str, Meta(min_length=1)]
"""A port by its number, or by the name of a container port."""
Needed = Annotated[str, Meta(min_length=1)]
"""A text that must not be missing; an empty one is."""
Name = Annotated[str, Meta(min_length=1, extra=extra(_NAME))]
NamespaceName = Annotated[str, Meta(min_length=1, extra=extra(_NAMESPACE))]
ServiceName = Annotated[str, Meta(min_length=1, extra=extra(_SERVICE))]
"""A DNS label. Whether it may begin with a digit depends on the server."""
NamespaceOrEmpty = Annotated[str, Meta(extra=extra(_NAMESPACE_OR_EMPTY))]
AccountOrEmpty = Annotated[str, Meta(extra=extra(_ACCOUNT))]
Address = Annotated[str, Meta(extra=extra(_ADDRESS))]
"""An IPv4 or IPv6 address, or nothing."""
Network = Annotated[str, Meta(extra=extra(_NETWORK))]
"""A block of addresses."""
NetworkOrEmpty = Annotated[str, Meta(extra=extra(_NETWORK_OR_EMPTY))]
Labels = dict[Annotated[str, Meta(extra=extra(_KEY_OF_LABEL))], Annotated[str, Meta(extra=extra(_VALUE_OF_LABEL))]]
Annotations = Annotated[
    dict[Annotated[str, Meta(extra=extra(_KEY_OF_ANNOTATION))], str],
    Meta(extra=extra(Rule(_annotations_troubles, holds=_are_within_the_limit))),
]
