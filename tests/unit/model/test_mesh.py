"""Several revisions in one input: whose configuration is whose, and which namespaces each of them reads."""

from __future__ import annotations

import pytest

from peerauth.model.mesh import (
    DEFAULT_MESH,
    DEFAULT_REVISION,
    Injector,
    MeshConfig,
    Meshes,
    Operator,
    Requirement,
)
from samples.meshes import pairs

DEFAULT, CANARY = MeshConfig(root_namespace="root"), MeshConfig(root_namespace="canary-root", revision="canary")


def meshes(*said: MeshConfig | Injector) -> Meshes:
    found = Meshes()
    for one in said:
        found = found.having(one)
    return found


def test_without_any_configuration_the_default_is_istios() -> None:
    assert (Meshes().default, Meshes().of("canary")) == (DEFAULT_REVISION, DEFAULT_MESH)


def test_each_revision_has_its_own_configuration_and_one_that_is_not_known_the_defaults() -> None:
    both = meshes(DEFAULT, CANARY)
    assert (both.of("canary"), both.of("default"), both.of("other")) == (CANARY, DEFAULT, DEFAULT)
    assert [both.knows(name) for name in ("canary", "default", "other")] == [True, True, False]
    assert both.without(CANARY).of("canary") is DEFAULT


def test_a_tag_is_another_name_for_a_revision() -> None:
    tagged = meshes(DEFAULT, CANARY, Injector("canary", "next"))
    assert [tagged.named(name) for name in ("next", "canary", "other", "")] == ["canary", "canary", "other", "default"]
    assert tagged.without(Injector("canary", "next")).named("next") == "next"


def test_the_tag_default_says_who_decides_where_nothing_names_a_revision() -> None:
    tagged = meshes(DEFAULT, CANARY, Injector("default"), Injector("canary", "default"))
    assert (tagged.default, tagged.named(""), tagged.named("default")) == ("canary", "canary", "canary")
    assert tagged.of(tagged.default) is CANARY


def test_the_only_configuration_is_the_defaults_unless_a_default_revision_is_known_to_be_there() -> None:
    assert meshes(CANARY).default == "canary"
    assert meshes(CANARY, Injector("default")).default == "default"
    assert meshes(CANARY, DEFAULT).default == "default"


IN = Requirement("env", Operator.IN, ("prod", "test"))
NOT_IN = Requirement("env", Operator.NOT_IN, ("dev",))
EXISTS = Requirement("team", Operator.EXISTS)
ABSENT = Requirement("team", Operator.DOES_NOT_EXIST)
NAMED = Requirement("kubernetes.io/metadata.name", Operator.IN, ("foo",))


@pytest.mark.parametrize(
    ("selectors", "labels", "expected"),
    [
        ((), None, True),
        (((),), None, True),
        (((IN,),), {"env": "prod"}, True),
        (((IN,),), {"env": "dev"}, False),
        (((IN,),), {}, False),
        (((NOT_IN,),), {}, True),
        (((NOT_IN,),), {"env": "dev"}, False),
        (((EXISTS,),), {"team": ""}, True),
        (((EXISTS,),), {}, False),
        (((ABSENT,),), {}, True),
        (((ABSENT,),), {"team": "red"}, False),
        (((IN, EXISTS),), {"env": "prod"}, False),
        (((IN,), (EXISTS,)), {"team": "red"}, True),
        (((IN,),), None, None),
        (((IN,), (NAMED,)), None, True),
        (((NAMED,),), {}, True),
        (((NAMED, IN),), None, None),
    ],
)
def test_a_namespace_is_read_if_a_selector_matches_it_and_unknown_labels_stay_unknown(
    selectors: tuple[tuple[Requirement, ...], ...], labels: dict[str, str] | None, expected: bool | None
) -> None:
    mesh = MeshConfig(discovery_selectors=selectors)
    assert mesh.reads("foo", None if labels is None else pairs(labels)) is expected


def test_a_namespace_is_known_to_have_another_name_without_its_labels() -> None:
    mesh = MeshConfig(discovery_selectors=((NAMED, IN),))
    assert mesh.reads("bar", None) is False
