"""Names, labels and annotations are held to the API server's own rules, wherever an object has them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema import FixedPlace, check
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE
from peerauth.model.schema.names import is_label_key, is_label_value

NO_LABEL_VALUES = ["a b", " a", "a" * 64, "a-", "-a", "a.", "_a", "a/b", "é", "a\n", "*"]
LABEL_VALUES = ["", "a", "A-b_c.9", "a" * 63, "0"]
NO_KEYS = ["", "/", "a/", "/a", "a/b/c", "A/b", "a_b/c", "-a", "a b", "a" * 64, "x" * 254 + "/a", "x/" + "a" * 64]
KEYS = ["a", "A_b.C-9", "app.kubernetes.io/name", "a" * 63, ".".join(["a" * 62] * 4) + "/" + "a" * 63]


def faults(resource: dict[str, object]) -> list[Diagnostic]:
    return list(check(resource, place=FixedPlace()).diagnostics)


def pod(**meta: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", **meta}}


def deployment(**meta: object) -> dict[str, object]:
    template = {"metadata": meta, "spec": {}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": template}}


def service(selector: object = None, name: str = "a") -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": selector}}


@pytest.mark.parametrize("value", NO_LABEL_VALUES)
def test_what_cannot_be_the_value_of_a_label_is_a_fault_in_every_place_that_has_labels(value: str) -> None:
    for resource in (pod(labels={"x": value}), deployment(labels={"x": value}), service({"x": value})):
        (found,) = faults(resource)
        assert (found.code, found.path.rpartition(".")[2]) == (INVALID_NAME.code, "x")


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_cannot_be_the_key_of_a_label_is_a_fault_in_every_place_that_has_labels(key: str) -> None:
    for resource in (pod(labels={key: "x"}), deployment(labels={key: "x"}), service({key: "x"})):
        assert [found.code for found in faults(resource)] == [INVALID_NAME.code]


def test_what_can_be_a_label_is_one() -> None:
    labels = dict.fromkeys(KEYS, "x") | {f"k{number}": value for number, value in enumerate(LABEL_VALUES)}
    assert faults(pod(labels=labels)) == faults(deployment(labels=labels)) == faults(service(labels)) == []


def test_the_keys_of_annotations_are_those_of_labels_in_either_case() -> None:
    assert faults(pod(annotations={"Example.COM/Key": "any text at all\n"})) == []
    assert faults(deployment(annotations={"Example.COM/Key": "-"})) == []
    for key in ("a b", "", "a/b/c", "a/" + "b" * 64):
        assert [found.code for found in faults(pod(annotations={key: ""}))] == [INVALID_NAME.code]
        assert [found.code for found in faults(deployment(annotations={key: ""}))] == [INVALID_NAME.code]


@pytest.mark.parametrize("one", ["x", "é"])
def test_the_annotations_of_an_object_have_at_most_256_kib_together(one: str) -> None:
    most = (256 * 1024 - 2) // len(one.encode())
    assert faults(pod(annotations={"a": one * most, "b": ""})) == []
    (found,) = faults(pod(annotations={"a": one * most, "b": one}))
    assert (found.code, found.path) == (INVALID_VALUE.code, "metadata.annotations")


@pytest.mark.parametrize("kind", ["Namespace", "Service"])
def test_namespaces_and_services_have_dns_labels_as_names(kind: str) -> None:
    for name in ("a.b", "a" * 64, "A", "a-", "-a"):
        resource: dict[str, object] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
        assert [found.code for found in faults(resource)] == [INVALID_NAME.code], name


def test_other_names_are_dns_subdomains() -> None:
    assert faults(pod(name="a.b-9." + "c" * 200)) == []
    for name in ("a..b", ".a", "a.", "a_b", "a" * 254):
        assert [found.code for found in faults(pod(name=name))] == [INVALID_NAME.code], name


PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
DNS = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
texts = st.one_of(st.text(alphabet="aA0-_./ é\n", max_size=8), st.sampled_from(KEYS + NO_KEYS))


@given(texts)
def test_the_rules_are_those_that_kubernetes_writes_down(text: str) -> None:
    def is_part(part: str) -> bool:
        return 0 < len(part) <= 63 and bool(PART.fullmatch(part))

    parts = text.split("/")
    prefixed = len(parts) == 2 and len(parts[0]) <= 253 and bool(DNS.fullmatch(parts[0]))
    assert is_label_key(text) is (is_part(parts[-1]) and (len(parts) == 1 or prefixed))
    assert is_label_value(text) is (not text or is_part(text))
