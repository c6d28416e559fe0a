"""What is generated from the .proto files and committed is what they give now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from peerauth.proto import authorization_pb2, citadel_pb2, workload_pb2, zds_pb2

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_committed_modules_and_stubs_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/protos.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_messages_have_the_numbers_that_ztunnel_knows_them_by() -> None:
    """Facts of the protocol, said a second time so that an edit of a .proto file cannot change them unseen."""
    workload = {field.name: field.number for field in workload_pb2.Workload.DESCRIPTOR.fields}
    assert workload["authorization_policies"] == 16
    assert (workload["uid"], workload["node"], workload["tunnel_protocol"], workload["services"]) == (20, 9, 5, 22)
    assert workload_pb2.Workload.DESCRIPTOR.full_name == "istio.workload.Workload"
    policy = {field.name: field.number for field in authorization_pb2.Authorization.DESCRIPTOR.fields}
    assert (policy["scope"], policy["action"], policy["groups"], policy["dry_run"]) == (3, 4, 5, 6)
    assert [field.number for field in authorization_pb2.Rules.DESCRIPTOR.fields] == [2]
    match = {field.name: field.number for field in authorization_pb2.Match.DESCRIPTOR.fields}
    assert (match["not_principals"], match["destination_ports"], match["not_destination_ports"]) == (4, 9, 10)
    assert authorization_pb2.StringMatch.DESCRIPTOR.fields_by_name["presence"].number == 4
    assert citadel_pb2.DESCRIPTOR.services_by_name["IstioCertificateService"].full_name.startswith("istio.v1.auth.")
    request = {field.name: field.number for field in citadel_pb2.IstioCertificateRequest.DESCRIPTOR.fields}
    assert request == {"csr": 1, "validity_duration": 3, "metadata": 4}
    asked = {field.name: field.number for field in zds_pb2.WorkloadRequest.DESCRIPTOR.fields}
    assert asked == {"add": 1, "del": 2, "snapshot_sent": 3, "keep": 5}
    assert (zds_pb2.DelWorkload.DESCRIPTOR.fields[0].number, zds_pb2.V1) == (2, 1)
