"""Findings as SARIF 2.1.0, which code hosts show beside the lines they are about.

Source: the SARIF 2.1.0 standard of OASIS, sections 3.13 to 3.51. A finding about an object of a cluster, or of
standard input, has no place in a file and is given without a location.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import quote

from peerauth.analysis.lint.codes import ALL_CODES, FindingCode
from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.meta import Origin
from peerauth.sources.tree import STANDARD_INPUT

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif_document(findings: Sequence[Diagnostic], *, version: str) -> dict[str, object]:
    """The whole log: one run of this tool, with a rule for every code that occurs."""
    codes = sorted({finding.code for finding in findings if finding.code in ALL_CODES})
    index = {code: place for place, code in enumerate(codes)}
    driver = {"name": "peerauth", "version": version, "rules": [_rule(ALL_CODES[code]) for code in codes]}
    results = [_result(finding, index) for finding in findings]
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _rule(code: FindingCode) -> dict[str, object]:
    return {
        "id": code.code,
        "name": code.name,
        "shortDescription": {"text": f"{code.summary}."},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
        "help": {"text": f"docs/findings/{code.code}.md says what it means, why it matters and how to fix it."},
    }


def _result(finding: Diagnostic, index: dict[str, int]) -> dict[str, object]:
    text = f"{finding.message}. Fix: {finding.hint}" if finding.hint else finding.message
    result: dict[str, object] = {
        "ruleId": finding.code,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
    }
    place = _place(finding.origin)
    if place:
        result["locations"] = [{"physicalLocation": place}]
    if finding.code in index:
        result["ruleIndex"] = index[finding.code]
    related = [_related(number, fact) for number, fact in enumerate(finding.evidence, 1) if _place(fact.origin)]
    if related:
        result["relatedLocations"] = related
    return result


def _related(number: int, fact: Evidence) -> dict[str, object]:
    return {"id": number, "physicalLocation": _place(fact.origin), "message": {"text": fact.text}}


def _place(origin: Origin) -> dict[str, object] | None:
    if origin.file in ("", STANDARD_INPUT) or origin.resource_version:
        return None
    # The bytes of the name, whether they are UTF-8 or not.
    name = PurePath(origin.file).as_posix().encode("utf-8", "surrogateescape")
    place: dict[str, object] = {"artifactLocation": {"uri": quote(name)}}
    if origin.line:
        region = {"startLine": origin.line, "startColumn": origin.column}
        place["region"] = {name: value for name, value in region.items() if value}
    return place
