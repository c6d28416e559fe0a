"""What can be wrong with a document, by code: the group 00 of the findings.

Every fault is an error: the document is refused, and says nothing to the mesh. A code is never given a new meaning; one
that is retired stays retired. The readers report 0001 to 0005 and 0015, `model/schema` the rest.
"""

from __future__ import annotations

import msgspec

from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.meta import NOWHERE, Origin


class Fault(msgspec.Struct, frozen=True):
    """A kind of fault. `name` is for people and SARIF (kebab case); `summary` is a sentence without a full stop."""

    code: str
    name: str
    summary: str

    def at(
        self, origin: Origin = NOWHERE, *, message: str, path: str = "", hint: str = "", subject: str = ""
    ) -> Diagnostic:
        """One fault of this kind, found at `origin`."""
        return Diagnostic(
            code=self.code,
            severity=Severity.ERROR,
            message=message,
            origin=origin,
            path=path,
            hint=hint,
            subject=subject,
        )


SYNTAX = Fault("PA0001", "yaml-syntax", "The text is not YAML")
DUPLICATE_KEY = Fault("PA0002", "duplicate-key", "A mapping has one key twice")
LIMIT = Fault("PA0003", "over-a-limit", "The text is larger, deeper or more repetitive than is read")
ENCODING = Fault("PA0004", "encoding", "The bytes are not text, or have characters that YAML does not allow")
UNSUPPORTED_YAML = Fault("PA0005", "unsupported-yaml", "A feature of YAML that Kubernetes documents do not use")
NOT_A_RESOURCE = Fault("PA0006", "not-a-resource", "The document is not a Kubernetes object")
WRONG_TYPE = Fault("PA0007", "wrong-type", "A value has the wrong type")
UNKNOWN_FIELD = Fault("PA0008", "unknown-field", "The resource has no such field")
INVALID_VALUE = Fault("PA0009", "invalid-value", "A value is not one of those allowed")
MISSING_FIELD = Fault("PA0010", "missing-field", "A field that must be there is not")
PORTS_WITHOUT_SELECTOR = Fault("PA0011", "ports-without-selector", "`portLevelMtls` needs a selector")
INVALID_PORT = Fault("PA0012", "invalid-port", "A port is not between 1 and 65535")
INVALID_NAME = Fault("PA0013", "invalid-name", "A name or label is not one that Kubernetes allows")
UNKNOWN_VERSION = Fault("PA0014", "unknown-version", "The kind is known, but not in this apiVersion")
UNREADABLE = Fault("PA0015", "unreadable", "A path cannot be read, or is no regular file")

ALL_FAULTS: tuple[Fault, ...] = (
    SYNTAX,
    DUPLICATE_KEY,
    LIMIT,
    ENCODING,
    UNSUPPORTED_YAML,
    NOT_A_RESOURCE,
    WRONG_TYPE,
    UNKNOWN_FIELD,
    INVALID_VALUE,
    MISSING_FIELD,
    PORTS_WITHOUT_SELECTOR,
    INVALID_PORT,
    INVALID_NAME,
    UNKNOWN_VERSION,
    UNREADABLE,
)
