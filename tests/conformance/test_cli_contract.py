"""What scripts may rely on: the JSON documents, SARIF, and exit codes, as docs/ describes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from peerauth.analysis.lint.codes import ALL_CODES
from peerauth.cli.main import cli
from samples.manifests import IN_AMBIENT_MODE, documents, mesh_config, namespace, pod, policy, revision_tag

DOCS = Path(__file__).parents[2] / "docs"

FINE = documents(namespace(), pod(), policy("foo/default", "STRICT"))
OPEN = documents(namespace(), pod())
LOST = documents(FINE, policy("foo/other", "DISABLE"))
INVALID = documents(FINE, policy("foo/bad", "MAYBE"))
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n"
SIDECAR = "    - name: istio-proxy\n      args: [proxy, sidecar]\n"
EXCLUDE = "traffic.sidecar.istio.io/excludeInboundPorts"
INCLUDE = "traffic.sidecar.istio.io/includeInboundPorts"
UNREADABLE = documents(FINE, "a: [\n")


class Enforced(msgspec.Struct, forbid_unknown_fields=True):
    mode: str | None
    ports: dict[str, str | None]


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    level: str
    said: str
    verdict: str
    why: str
    policy: str = ""
    port: int = 0
    file: str = ""
    line: int = 0
    column: int = 0
    lostTo: str = ""  # noqa: N815


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    namespace: str
    name: str
    kind: str
    dataplane: str
    mode: str
    ports: dict[str, str]
    enforced: Enforced | None
    notes: list[str]
    istio: list[str]
    maySelect: list[str]  # noqa: N815
    reasons: list[Reason]
    revision: str = ""
    dataplaneByLabels: str = ""  # noqa: N815


class Mesh(msgspec.Struct, forbid_unknown_fields=True):
    rootNamespace: str  # noqa: N815
    trustDomain: str  # noqa: N815


class NotUnderstood(msgspec.Struct, forbid_unknown_fields=True):
    namespace: str
    name: str
    kind: str
    group: str
    file: str
    line: int
    column: int


class Revision(Mesh, forbid_unknown_fields=True):
    name: str


class Explained(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    mesh: Mesh
    workloads: list[Workload]
    notUnderstood: list[NotUnderstood]  # noqa: N815
    revisions: list[Revision] = []


def run(command: str, text: str, *options: str) -> Result:
    return CliRunner().invoke(cli, [command, "-f", "-", *options], input=text)


def explained(text: str, *options: str) -> Explained:
    return msgspec.json.decode(run("explain", text, "-o", "json", *options).stdout, type=Explained)


def fences(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / "json.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(("place", "command"), [(0, "explain"), (1, "check")])
def test_the_documented_json_is_what_the_commands_print(
    place: int, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesh.yaml").write_text(fences("yaml")[0])
    printed = CliRunner().invoke(cli, [command, "-f", "mesh.yaml", "-o", "json"]).stdout
    assert json.loads(printed) == json.loads(fences("json")[place])


def test_the_documented_text_is_what_explain_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    shown = re.search(r"^    \$ peerauth (.*)\n((?:    .*\n)*)", (DOCS / "explain.md").read_text("utf-8"), re.MULTILINE)
    assert shown is not None
    printed = CliRunner().invoke(cli, shown[1].split()).stdout
    assert [line[4:] for line in shown[2].splitlines()] == printed.rstrip("\n").splitlines()


def test_a_workload_has_exactly_the_documented_members() -> None:
    (workload,) = explained(FINE).workloads
    assert (workload.dataplane, workload.mode, workload.ports) == ("sidecar", "STRICT", {"8080": "STRICT"})
    assert workload.enforced == Enforced("STRICT", {"8080": "STRICT"})
    assert [(reason.level, reason.verdict) for reason in workload.reasons] == [("namespace", "decides")]


def test_a_live_pod_is_shown_with_what_it_proves_and_with_what_its_labels_ask_for() -> None:
    mesh = documents(namespace(), pod("foo/bare", live=True), pod("foo/tidy", container=SIDECAR, live=True), pod())
    shown = {
        one.name: (one.dataplane, one.dataplaneByLabels, one.enforced is None) for one in explained(mesh).workloads
    }
    assert shown == {
        "bare": ("none", "sidecar", True),
        "tidy": ("sidecar", "", False),
        "finance": ("sidecar", "", False),
    }
    text = run("explain", mesh).stdout
    assert "outside the mesh, nothing is enforced: it carries no istio-proxy" in text
    assert "by its labels it would be in the mesh with a sidecar: its namespace's label istio-injection" in text


def test_a_gateway_is_shown_as_one_on_which_nothing_is_enforced() -> None:
    mesh = documents(FINE, pod("foo/gate", container=SIDECAR.replace("sidecar", "router")))
    gate = next(one for one in explained(mesh).workloads if one.name == "gate")
    assert (gate.dataplane, gate.mode, gate.enforced) == ("gateway", "STRICT", None)
    assert "gateway  its listeners come from Gateway resources" in run("explain", mesh).stdout


@pytest.mark.parametrize(
    ("annotations", "mode", "ports", "note"),
    [
        ({EXCLUDE: "9000"}, "STRICT", {"8080": "STRICT", "9000": None}, "Port 9000 is kept away from the proxy by the"),
        ({INCLUDE: "8080"}, None, {"8080": "STRICT", "9000": None}, "Ports 9000 and all others are kept away from"),
        ({INCLUDE: "8080,9000"}, None, {"8080": "STRICT", "9000": "STRICT"}, "All other ports are kept away from the"),
        ({INCLUDE: ""}, None, {"8080": None, "9000": None}, "Ports 8080, 9000 and all others are kept away from"),
    ],
)
def test_enforced_is_null_where_nothing_reaches_the_proxy_and_the_notes_say_why(
    annotations: dict[str, str], mode: str | None, ports: dict[str, str | None], note: str
) -> None:
    mesh = documents(namespace(), pod(ports={8080: "", 9000: ""}, annotations=annotations), policy("foo/a", "STRICT"))
    (workload,) = explained(mesh).workloads
    assert workload.enforced == Enforced(mode, ports)
    assert (workload.mode, workload.ports) == ("STRICT", {"8080": "STRICT", "9000": "STRICT"})
    assert workload.notes[0].startswith(note)
    assert f"but         {workload.notes[0]}" in run("explain", mesh).stdout


def test_of_one_port_the_text_says_nothing_about_the_others() -> None:
    mesh = documents(namespace(), pod(annotations={INCLUDE: "8080"}), policy("foo/a", "STRICT"))
    assert "but  " not in run("explain", mesh, "foo/finance:8080").stdout
    assert "Port 15090 is left to the sidecar's agent" in run("explain", mesh, "foo/finance:15090").stdout


def test_the_mesh_says_its_root_namespace_and_trust_domain() -> None:
    mesh = explained(documents("rootNamespace: root\ntrustDomain: td\n", pod())).mesh
    assert mesh == Mesh("root", "td")


def test_with_several_revisions_each_workload_has_its_own_and_each_revision_its_configuration() -> None:
    text = documents(
        mesh_config("trustDomain: td"),
        mesh_config("rootNamespace: root", revision="canary"),
        namespace(),
        pod(),
        namespace("new", {"istio.io/rev": "next"}),
        pod("new/w"),
        namespace("out", {}),
        pod("out/w"),
        revision_tag("next", "canary"),
        policy("root/default", "STRICT"),
    )
    result = explained(text)
    assert result.mesh == Mesh("istio-system", "td")
    assert [(one.name, one.rootNamespace, one.trustDomain) for one in result.revisions] == [
        ("canary", "root", "cluster.local"),
        ("default", "istio-system", "td"),
    ]
    assert [(one.namespace, one.revision, one.mode) for one in result.workloads] == [
        ("foo", "default", "PERMISSIVE"),
        ("new", "canary", "STRICT"),
        ("out", "", "PERMISSIVE"),
    ]
    lines = [line for line in run("explain", text).stdout.splitlines() if "data plane" in line]
    assert [line.rpartition("of the revision ")[2] for line in lines[:2]] == ["default", "canary"]
    assert "revision" not in lines[2]


def test_where_there_is_one_revision_nothing_is_said_of_it() -> None:
    for text in (FINE, documents(FINE, mesh_config("trustDomain: td", revision="canary"))):
        result = explained(text)
        assert (result.revisions, [one.revision for one in result.workloads]) == ([], [""])
        assert "revision" not in run("explain", text).stdout


def test_outside_the_mesh_enforced_is_null() -> None:
    (workload,) = explained(documents(namespace(labels={}), pod())).workloads
    assert (workload.dataplane, workload.enforced) == ("none", None)


def test_ambient_enforces_permissive_for_disable() -> None:
    (workload,) = explained(documents(namespace(labels=IN_AMBIENT_MODE), pod(), policy("foo/a", "DISABLE"))).workloads
    assert workload.mode == "DISABLE"
    assert workload.enforced == Enforced("PERMISSIVE", {"8080": "PERMISSIVE"})


def test_one_port_is_explained_alone() -> None:
    text = documents(FINE, policy("foo/p", app="finance", ports={9000: "DISABLE"}))
    result = CliRunner().invoke(cli, ["explain", "foo/finance:9000", "-f", "-", "-o", "json"], input=text)
    assert msgspec.json.decode(result.stdout, type=Explained).workloads[0].ports == {"9000": "DISABLE"}


def test_no_workloads_are_an_empty_list() -> None:
    assert explained(policy("foo/default", "STRICT")).workloads == []


def test_the_order_of_the_input_does_not_change_the_order_of_workloads() -> None:
    names = ["b/a", "a/b", "a/a", "a/c"]
    orders = [explained(documents(*(pod(name) for name in order))) for order in (names, names[::-1])]
    assert [[f"{w.namespace}/{w.name}" for w in one.workloads] for one in orders] == [sorted(names)] * 2


@pytest.mark.parametrize(
    ("command", "text", "options", "code"),
    [
        ("explain", FINE, (), 0),
        ("explain", LOST, (), 0),
        ("explain", INVALID, (), 2),
        ("explain", UNREADABLE, (), 2),
        ("explain", "", (), 2),
        ("check", FINE, (), 0),
        ("check", OPEN, (), 0),
        ("check", LOST, (), 1),
        ("check", LOST, ("--fail-on", "error"), 0),
        ("check", INVALID, (), 1),
        ("check", INVALID, ("--fail-on", "error"), 1),
        ("check", UNREADABLE, (), 2),
        ("check", "", (), 2),
        ("check", FINE, ("--require", "strict"), 0),
        ("check", OPEN, ("--require", "strict"), 1),
        ("check", FINE, ("--require", "permissive"), 2),
    ],
)
@pytest.mark.parametrize("output", ["text", "json"])
def test_exit_codes(command: str, text: str, options: tuple[str, ...], code: int, output: str) -> None:
    assert run(command, text, "-o", output, *options).exit_code == code


def test_the_summary_counts_what_was_read_and_found() -> None:
    report = json.loads(run("check", documents(LOST, "a: [\n", SECRET), "-o", "json").stdout)
    assert report["schema"] == 2
    assert report["summary"] == {
        "documents": 6,
        "policies": 2,
        "workloads": 1,
        "errors": 1,
        "warnings": 1,
        "infos": 0,
        "passedOver": {"Secret": 1},
    }
    assert [finding["severity"] for finding in report["findings"]] == ["error", "warning"]


ROLLOUT = (
    "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata:\n  name: r\n  namespace: foo\n"
    "spec:\n  workloadRef:\n    kind: Deployment\n    name: d\n"
)


@pytest.mark.parametrize("command", ["explain", "check"])
def test_what_runs_containers_and_is_not_understood_is_named(command: str) -> None:
    document = json.loads(run(command, documents(FINE, ROLLOUT), "-o", "json").stdout)
    (named,) = msgspec.convert(document["notUnderstood"], list[NotUnderstood])
    assert (named.kind, named.group, named.namespace, named.name) == ("Rollout", "argoproj.io", "foo", "r")
    text = run(command, documents(FINE, ROLLOUT)).stdout
    assert re.search(r"^passed over, though it runs containers.*: Rollout foo/r \(-:\d+:1\)$", text, re.MULTILINE)


def test_the_last_line_of_the_text_sums_up() -> None:
    lines = run("check", LOST).stdout.splitlines()
    assert lines[-1] == "4 documents, 2 policies, 1 workload: 0 errors, 1 warning, 0 to know"


def test_sarif_has_a_rule_a_place_and_a_level_for_each_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a mesh.yaml").write_text(LOST)
    result = CliRunner().invoke(cli, ["check", "-f", "a mesh.yaml", "-o", "sarif"])
    log = json.loads(result.stdout)
    (sarif_run,) = log["runs"]
    (found,) = sarif_run["results"]
    assert log["version"] == "2.1.0"
    assert sarif_run["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == found["ruleId"] == "PA0101"
    assert found["level"] == "warning"
    place = found["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a%20mesh.yaml"}, "region": {"startLine": 31, "startColumn": 1}}
    assert [related["id"] for related in found["relatedLocations"]] == [1, 2]
    assert result.exit_code == 1


def test_sarif_of_standard_input_has_no_file_to_name() -> None:
    log = json.loads(run("check", LOST, "-o", "sarif").stdout)
    assert "locations" not in log["runs"][0]["results"][0]


def test_sarif_without_findings_is_a_run_without_results() -> None:
    log = json.loads(run("check", FINE, "-o", "sarif").stdout)
    assert log["runs"][0]["results"] == []


def test_the_page_of_check_lists_every_code() -> None:
    listed = re.findall(r"^\| \[(PA\d+)\]\(findings/(PA\d+)\.md\) (\S+)", (DOCS / "check.md").read_text(), re.MULTILINE)
    assert [(code, code, ALL_CODES[code].name) for code in sorted(ALL_CODES)] == listed
