"""`explain` and `check`: the commands that look at documents and touch nothing.

Reading is `sources/`, deciding is `policy/`, saying is `analysis/`; here they meet the arguments and the terminal.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import click

from peerauth.analysis.explain import (
    SCHEMA,
    Explainer,
    Explanation,
    Shared,
    decision_document,
    mesh_document,
    name_document,
    revision_documents,
    why_dataplane,
)
from peerauth.analysis.lint import lint
from peerauth.analysis.lint.codes import UNREADABLE
from peerauth.analysis.lint.survey import survey
from peerauth.analysis.may_select import may_select
from peerauth.analysis.passed_over import not_understood, not_understood_documents, not_understood_sentence
from peerauth.analysis.report import at_least, counts, in_order, report_document
from peerauth.cli.explained import body_lines, explanation_lines, heading
from peerauth.cli.findings import error_text, finding_lines, summary_lines
from peerauth.cli.jsontext import json_bytes, write_json
from peerauth.cli.reading import Reading, read
from peerauth.cli.render import plain, plain_text, writer
from peerauth.cli.sarif import sarif_document
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.inventory import Admission, WorkloadKey
from peerauth.policy.revisions import standing_in
from peerauth.sources.files import collection_paused

FINE, FOUND, BAD_INPUT = 0, 1, 2

PATHS = click.option(
    "-f",
    "--file",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="A file, a folder (read recursively), or - for standard input. May be given several times.",
)


class Target(NamedTuple):
    """What `NAMESPACE/NAME[:PORT]` names."""

    namespace: str
    name: str
    port: int | None


class TargetType(click.ParamType[Target]):
    """Reads `NAMESPACE/NAME[:PORT]`."""

    name = "NAMESPACE/NAME[:PORT]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """The target, or a usage error that shows the form."""
        if isinstance(value, Target):
            return value
        whole, _, written = str(value).partition(":")
        namespace, slash, name = whole.partition("/")
        if not (slash and namespace and name) or "/" in name:
            self.fail(f"'{value}' is not NAMESPACE/NAME[:PORT], such as foo/finance or foo/finance:8080", param, ctx)
        if ":" not in str(value):
            return Target(namespace, name, None)
        if not written.isdecimal() or not 1 <= int(written) <= 65535:
            self.fail(f"'{written}' is not a port: ports are numbers from 1 to 65535", param, ctx)
        return Target(namespace, name, int(written))


EXPLAIN_EPILOG = """\b
Examples:
  peerauth explain -f manifests/                   every workload
  peerauth explain foo/finance -f manifests/       one workload
  peerauth explain foo/finance:8080 -f manifests/  one port, declared or not
  kubectl get peerauthentication,namespace,pod,service -A -o yaml | peerauth explain -f - -o json
"""

CHECK_EPILOG = """\b
Examples:
  peerauth check -f manifests/
  peerauth check -f manifests/ --require strict    every port of the mesh must be STRICT
  peerauth check -f manifests/ -o sarif > peerauth.sarif
  kubectl get peerauthentication,namespace,pod,service -A -o yaml | peerauth check -f -
"""


@click.command(epilog=EXPLAIN_EPILOG)
@click.argument("target", type=TargetType(), required=False)
@PATHS
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--keep-going", is_flag=True, help="Explain what could be read even if some documents have errors.")
@collection_paused()
def explain(target: Target | None, paths: tuple[str, ...], output: str, keep_going: bool) -> int:
    """Show the effective mode of every port, and why.

    For each workload: its data plane, its mode, every port that someone declares or a policy names, and the chain of
    reasons, from the mesh's policy to the port's entry, with the policies that lost and to whom.
    """
    reading = read(paths)
    _refuse_errors(reading, keep_going=keep_going)
    workloads = _wanted(reading, target)
    port = target.port if target else None
    if output == "json":
        _write_explanations(reading, _explanations(reading, workloads, port=port))
    else:
        _print_explanations(_explanations(reading, workloads, port=port, people=True), port=port)
        if target is None and (sentence := not_understood_sentence(not_understood(reading.mesh.world))):
            click.echo(sentence)
        if not workloads:
            click.echo("no workloads in the input: there is nothing that a policy could apply to", err=True)
    return BAD_INPUT if reading.has_errors else FINE


def _refuse_errors(reading: Reading, *, keep_going: bool) -> None:
    """State every error; without --keep-going they end the command, since what they hide would be explained wrongly."""
    if not reading.has_errors:
        return
    for finding in in_order(reading.diagnostics):
        if finding.severity is Severity.ERROR:
            click.echo(error_text(finding), err=True, nl=False)
    if not keep_going:
        click.echo("nothing is explained, because what could not be read may decide; --keep-going does it", err=True)
        raise SystemExit(BAD_INPUT)


def _wanted(reading: Reading, target: Target | None) -> Sequence[WorkloadKey]:
    """The keys of the workloads to explain, in the order of their names."""
    table = reading.mesh.world.workloads
    if target is None:
        return sorted(table)
    here = table.in_namespace(target.namespace)
    found = sorted(key for key in here if key.name == target.name)
    if not found:
        _not_found(target, [str(key) for key in here] or [str(key) for key in table])
    return found


def _not_found(target: Target, known: Sequence[str]) -> NoReturn:
    wanted = f"{target.namespace}/{target.name}"
    nearest = difflib.get_close_matches(wanted, known, n=1)
    guess = f"; did you mean {nearest[0]}?" if nearest else ""
    raise click.ClickException(f"there is no workload {wanted} in the input{guess}")


def _explanations(
    reading: Reading, workloads: Sequence[WorkloadKey], *, port: int | None, people: bool = False
) -> Iterator[Explanation]:
    """What is said of each workload; the sentence on its data plane is not part of the contract for programs."""
    world, several = reading.mesh.world, len(reading.revisions) > 1
    explainer = Explainer(port=port, tells_revision=several, meshes=world.meshes)
    to_come = may_select(world, reading.decide)
    for key in workloads:
        workload = world.workloads[key]
        services = world.services_selecting(workload)
        live = workload.admission is not Admission.AHEAD
        yield explainer.explain(
            workload,
            reading.mesh.decisions.decision(key),
            declared=world.declared_numbers(workload, services),
            why_dataplane=why_dataplane(workload, world) if people else "",
            by_labels=standing_in(workload, world).membership.by_labels if live else None,
            may_select=to_come.get(key, ()),
        )


def _write_explanations(reading: Reading, explanations: Iterator[Explanation]) -> None:
    """The JSON contract, a workload to a line, written as it is made."""
    out = sys.stdout.buffer
    out.write(b'{"schema": %d, "mesh": ' % SCHEMA + json_bytes(mesh_document(reading.mesh.world.mesh)))
    out.write(_several_revisions(reading) + b', "workloads": [')
    decisions = Shared(lambda explanation: json_bytes(decision_document(explanation)))
    separator = b"\n"
    for explanation in explanations:
        name = json_bytes(name_document(explanation.workload))
        out.write(separator + name[:-1] + b"," + decisions.of(explanation)[1:])  # two objects as one
        separator = b",\n"
    out.write(b"\n]" if separator == b",\n" else b"]")
    unread = json_bytes(not_understood_documents(not_understood(reading.mesh.world)))
    out.write(b', "notUnderstood": ' + unread + b"}\n")
    out.flush()


def _several_revisions(reading: Reading) -> bytes:
    """The member `revisions`, where there is more than one."""
    if len(reading.revisions) < 2:
        return b""
    return b', "revisions": ' + json_bytes(revision_documents(reading.mesh.world.meshes, reading.revisions))


def _print_explanations(explanations: Iterator[Explanation], *, port: int | None) -> None:
    out = sys.stdout
    if out.isatty():
        write = writer()
        for explanation in explanations:
            write(explanation_lines(explanation, port=port))
        return
    encoding, errors = out.encoding, out.errors or "strict"
    bodies = Shared(lambda explanation: plain_text(body_lines(explanation, port=port)).encode(encoding, errors))
    out.flush()
    write_bytes = out.buffer.write
    for explanation in explanations:
        write_bytes((plain(heading(explanation)) + "\n").encode(encoding, errors) + bodies.of(explanation))
    out.buffer.flush()


@click.command(epilog=CHECK_EPILOG)
@PATHS
@click.option("-o", "--output", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option("--require", "required", type=click.Choice(["strict"]), help="Fail unless every port of the mesh is so.")
@click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in Severity]),
    default=Severity.WARNING.value,
    show_default=True,
    help="The mildest severity that makes the exit code 1.",
)
@collection_paused()
def check(paths: tuple[str, ...], output: str, required: str | None, fail_on: str) -> int:
    """Find what is wrong or surprising in the policies, and say the fix.

    Findings are few and each has its evidence; docs/findings has a page for every code. The exit code is 1 if there is
    a finding of the severity --fail-on or worse, and 2 if something could not be read at all.
    """
    reading = read(paths)
    found = lint(survey(reading.mesh.world, reading.decide), require_strict=required == "strict")
    findings = in_order([*reading.diagnostics, *found])
    _write_findings(reading, findings, output=output)
    if any(finding.code in UNREADABLE for finding in findings):
        return BAD_INPUT
    return FOUND if at_least(findings, Severity(fail_on)) else FINE


def _write_findings(reading: Reading, findings: list[Diagnostic], *, output: str) -> None:
    world, unread = reading.mesh.world, not_understood(reading.mesh.world)
    summary = counts(
        findings,
        documents=reading.documents,
        policies=len(world.policies),
        workloads=len(world.workloads),
        passed_over=reading.passed_over,
    )
    match output:
        case "json":
            write_json(report_document(findings, summary, unread))
        case "sarif":
            from importlib.metadata import version  # noqa: PLC0415  (slow to import, and needed here only)

            write_json(sarif_document(findings, version=version("peerauth")))
        case _:
            write = writer()
            for finding in findings:
                write(finding_lines(finding))
            write(summary_lines(summary, unread))
