"""Reading by description: what is passed over, what is refused, and what is built of a document for it."""

from __future__ import annotations

import pytest

from peerauth.model.schema import FixedPlace, check, outline_of, typed
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.text import Chunk

ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: a
  labels:
    app: b
  ownerReferences:
    - name: c
secrets:
  - name: d
"""


def built(text: str) -> object:
    document = BlockReader().read(Chunk(text, 1, "f"))
    assert document is not None
    return document.value_read


def test_only_what_is_described_is_built() -> None:
    assert built(ACCOUNT) == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "a", "labels": {"app": "b"}},
    }


def test_of_a_kind_that_is_not_described_everything_is_built() -> None:
    assert outline_of("v1", "Secret") is None
    assert built(ACCOUNT.replace("ServiceAccount", "Secret"))["secrets"] == [{"name": "d"}]  # type: ignore[index]


def test_a_mapping_is_empty_only_if_it_is() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nstatus:\n  qosClass: BestEffort\n"
    assert built(text)["status"] == {"qosClass": "BestEffort"}  # type: ignore[index]


def test_where_another_type_stands_than_is_described_all_of_it_is_built() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata:\n  - name: a\nspec:\n  containers:\n    a: 1\n"
    value = built(text)
    assert isinstance(value, dict)
    assert (value["metadata"], value["spec"]) == ([{"name": "a"}], {"containers": {"a": 1}})


def test_unknown_fields_are_built_where_they_are_refused() -> None:
    text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: a\nspec:\n  mtl:\n    a: 1\n"
    assert built(text)["spec"] == {"mtl": {"a": 1}}  # type: ignore[index]


def test_what_is_refused_is_never_refused_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the walker ever find nothing wrong with what cannot be converted, that is a fault all the same."""
    monkeypatch.setattr(typed, "walk", lambda *_: None)
    found = check({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": 7}}, place=FixedPlace())
    assert (found.objects, [fault.code for fault in found.diagnostics]) == ((), [INVALID_VALUE.code])
