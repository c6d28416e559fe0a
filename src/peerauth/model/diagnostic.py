"""A fault or finding about the input, as a value: what, where, how bad, and what to do.

Every error of a run is collected; nothing stops at the first. Codes are stable and each has a page in docs/.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.meta import NOWHERE, Origin


class Severity(StrEnum):
    """ERROR: the input is refused or does not do what it says. WARNING: likely not meant. INFO: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Evidence(msgspec.Struct, frozen=True):
    """One fact behind a finding, and where it was said."""

    text: str
    origin: Origin = NOWHERE


class Diagnostic(msgspec.Struct, frozen=True):
    """One fault or finding. `path` is the place inside the document, such as `spec.portLevelMtls.8080.mode`.

    `subject` is the object it is about, as `Kind namespace/name`; `hint` says the fix.
    """

    code: str
    severity: Severity
    message: str
    origin: Origin = NOWHERE
    path: str = ""
    hint: str = ""
    subject: str = ""
    evidence: tuple[Evidence, ...] = ()
