"""`peerauth explain` as text: what a tired operator must be able to read off it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from peerauth.cli.main import cli
from samples.manifests import IN_AMBIENT_MODE, documents, namespace, pod, policy, service


def explain(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["explain", "-f", "-", *arguments], input=text)


def block(text: str, *arguments: str) -> list[str]:
    result = explain(text, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_workload_is_shown_with_its_mode_its_ports_and_the_chain_of_reasons() -> None:
    text = documents(
        namespace(),
        pod(ports={8080: "http"}),
        service(port=9000, target=9000, port_name="admin"),
        policy("istio-system/default", "PERMISSIVE"),
        policy("foo/a", "STRICT", app="finance", ports={8080: "DISABLE", 9443: "UNSET"}),
        policy("foo/b", "PERMISSIVE", app="finance"),
    )
    assert block(text) == [
        "foo/finance  Pod",
        "  data plane  sidecar  its namespace's label istio-injection is enabled",
        "  mode        STRICT  mutual TLS only",
        "  ports       8080    http  DISABLE  passed on as it arrives, no mutual TLS  by its entry in foo/a",
        "              9000          STRICT   mutual TLS only",
        "              9443          STRICT   mutual TLS only                         not declared",
        "              others        STRICT   mutual TLS only",
        "  reasons     mesh       istio-system/default  PERMISSIVE  overridden      -:43:11",
        "                It speaks for the whole mesh, but foo/a is narrower and says STRICT.",
        "              workload   foo/a                 STRICT      decides         -:55:11",
        "                It selects this workload (app=finance).",
        "              workload   foo/b                 PERMISSIVE  loses to foo/a  -:72:11",
        "                foo/a selects this workload (app=finance) as well and wins, because neither has a creation "
        "time and its name comes first. Nothing this policy says counts.",
        "              port 8080  foo/a                 DISABLE     decides         -:58:13",
        "                The entry for port 8080 goes before the workload's mode, STRICT.",
        "              port 9443  foo/a                 UNSET       inherits        -:60:13",
        "                The entry for port 9443 sets no mode, so the port has the workload's: STRICT.",
        "",
    ]


def test_what_ambient_enforces_is_told_apart_from_what_is_asked() -> None:
    text = documents(
        namespace(labels=IN_AMBIENT_MODE), pod(), policy("foo/p", "STRICT", app="finance", ports={8080: "DISABLE"})
    )
    lines = block(text)
    assert (
        "  ports       8080      DISABLE  asked; enforced as PERMISSIVE: plaintext or mutual TLS  by its entry in foo/p"
        in lines
    )
    assert any(one.startswith("  but         Port 8080: the policy says DISABLE, but ambient") for one in lines)


def test_outside_the_mesh_nothing_is_claimed_to_be_enforced() -> None:
    lines = block(documents(namespace(labels={}), pod(), policy("foo/default", "STRICT")))
    assert lines[1].startswith(
        "  data plane  none  outside the mesh, nothing is enforced: neither it nor its namespace"
    )
    assert lines[2] == "  mode        STRICT  (asked, not enforced)"


def test_a_data_plane_that_hangs_on_a_namespace_that_was_not_given_is_in_doubt() -> None:
    doubt = "the Namespace foo is not in the input, which may say otherwise"
    assert block(pod())[1].endswith(doubt)
    assert not block(pod(labels={"sidecar.istio.io/inject": "false"}))[1].endswith(doubt)
    assert not block(documents(namespace(labels={}), pod()))[1].endswith(doubt)


def test_one_port_is_shown_alone_declared_or_not() -> None:
    text = documents(
        namespace(), pod(), policy("foo/p", "STRICT", app="finance", ports={8080: "DISABLE", 1: "DISABLE"})
    )
    lines = block(text, "foo/finance:7000")
    assert lines[2] == "  ports       7000    STRICT  mutual TLS only  not declared"
    assert not any("8080" in one for one in lines)


def test_the_workload_is_found_by_name_whatever_its_kind() -> None:
    deployment = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: finance\n  namespace: foo\n"
        "spec:\n  template:\n    spec:\n      containers: []\n"
    )
    lines = block(documents(pod(), deployment, pod("foo/other")), "foo/finance")
    assert [one for one in lines if one.startswith("foo/")] == ["foo/finance  Deployment", "foo/finance  Pod"]


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    result = explain(pod(), "foo/finanse")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: there is no workload foo/finanse in the input; did you mean foo/finance?\n"


BROKEN = policy("foo/default", "STRICTLY")


def test_errors_are_stated_with_place_and_hint_and_nothing_is_explained() -> None:
    result = explain(documents(pod(), BROKEN))
    assert (result.exit_code, result.stdout) == (2, "")
    first = result.stderr.splitlines()[0]
    assert first.startswith("error: -:22:11: ")
    assert first.endswith("(at spec.mtls.mode) [PA0009]")
    assert "  hint: " in result.stderr


def test_going_on_explains_the_rest_and_still_fails() -> None:
    result = explain(documents(pod(), BROKEN), "--keep-going")
    assert result.exit_code == 2
    assert result.stdout.startswith("foo/finance  Pod")
    assert "PA0009" in result.stderr


def test_all_errors_are_stated_not_the_first() -> None:
    result = explain(documents(BROKEN, "a: [\n", policy("foo/x", "NO")))
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")] != []
    assert [code for code in ("PA0001", "PA0009") if code in result.stderr] == ["PA0001", "PA0009"]
    assert result.stderr.count("error: ") == 3


@pytest.mark.parametrize("text", ["", "# nothing\n---\n"])
def test_no_documents_are_bad_input(text: str) -> None:
    result = explain(text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: no documents in -\n  hint: ")


def test_no_workloads_are_said_to_be_none() -> None:
    result = explain(policy("foo/default", "STRICT"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("no workloads in the input")


def test_folders_are_read_recursively(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "pod.yaml").write_text(pod())
    (tmp_path / "deep" / "er" / "policy.yml").write_text(policy("foo/default", "STRICT"))
    result = CliRunner().invoke(cli, ["explain", "-f", str(tmp_path)])
    assert "STRICT" in result.stdout
    assert f"{tmp_path}/deep/er/policy.yml:8:11" in result.stdout


def test_workloads_that_share_a_decision_are_each_told_their_own_ports() -> None:
    text = documents(
        namespace(),
        pod("foo/a", labels={"app": "finance"}, ports={8080: "http"}),
        pod("foo/b", labels={"app": "finance"}, ports={8080: "http"}),
        pod("foo/c", labels={"app": "finance"}, ports={8080: "web"}),
        pod("foo/d", labels={"app": "finance"}, ports={9090: ""}),
        policy("foo/p", "STRICT", app="finance"),
    )
    lines = block(text)
    starts = [number for number, line in enumerate(lines) if line.startswith("foo/")]
    assert [lines[number].split()[0] for number in starts] == ["foo/a", "foo/b", "foo/c", "foo/d"]
    assert [lines[number + 3].split()[1:4] for number in starts] == [
        ["8080", "http", "STRICT"],
        ["8080", "http", "STRICT"],
        ["8080", "web", "STRICT"],
        ["9090", "STRICT", "mutual"],
    ]
    told = json.loads(explain(text, "-o", "json").stdout)["workloads"]
    assert [(one["name"], one["ports"]) for one in told] == [
        *((name, {"8080": "STRICT"}) for name in "abc"),
        ("d", {"9090": "STRICT"}),
    ]


def test_where_istio_itself_differs_is_said_of_the_workload_and_of_each_port_that_it_concerns() -> None:
    text = documents(
        namespace(labels=IN_AMBIENT_MODE),
        pod(),
        policy("foo/ns", "STRICT"),
        policy("foo/p", app="finance", ports={8080: "DISABLE"}),
    )
    note = (
        "Istio's own control plane enforces foo/p otherwise in ambient mode: plaintext is refused on port 8080. "
        "To have it read alike, say `mtls.mode: STRICT` in foo/p itself."
    )
    assert note in explain(text).stdout
    assert note in explain(text, "foo/finance:8080").stdout
    assert note not in explain(text, "foo/finance:9000").stdout
    assert json.loads(explain(text, "-o", "json").stdout)["workloads"][0]["istio"] == [note]
