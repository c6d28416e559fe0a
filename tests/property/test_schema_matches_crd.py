"""The schema's verdict on a PeerAuthentication is that of its CRD, as a CEL engine and a structural check give it.

The rules below are those of Istio's CustomResourceDefinition, as data. On top of them the schema refuses what a server
drops or what means two things: unknown fields, and one port in two spellings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import cast

from cel_expr_python import cel
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from peerauth.model.schema import FixedPlace, check

MTLS: Mapping[str, object] = {
    "type": "object",
    "properties": {"mode": {"type": "string", "enum": ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]}},
}
SPEC: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "mtls": MTLS,
        "portLevelMtls": {
            "type": "object",
            "additionalProperties": MTLS,
            "minProperties": 1,
            "rules": ["self.all(key, 0 < int(key) && int(key) <= 65535)"],
        },
        "selector": {
            "type": "object",
            "properties": {
                "matchLabels": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "maxLength": 63, "rules": ['!self.contains("*")']},
                    "maxProperties": 4096,
                    "rules": ['self.all(key, !key.contains("*"))', "self.all(key, key.size() != 0)"],
                }
            },
        },
    },
    "rules": [
        "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? "
        "self.selector.matchLabels : {}).size() > 0) : true"
    ],
}
TYPES: Mapping[str, tuple[type, ...]] = {"object": (dict,), "string": (str,)}

environment = cel.NewEnv(variables={"self": cel.Type.DYN})
compiled: dict[str, cel.Expression] = {}


def holds(rule: str, value: object) -> bool:
    """Whether a validation rule is true of a value; a rule that fails to evaluate is not."""
    if rule not in compiled:
        compiled[rule] = environment.compile(rule)
    try:
        return compiled[rule].eval(data={"self": value}).value() is True
    except RuntimeError:
        return False


def without_nulls(value: object, schema: Mapping[str, object]) -> object:
    """What the API server validates: null properties are dropped first, where the schema names the property."""
    properties = cast("Mapping[str, Mapping[str, object]]", schema.get("properties", {}))
    if isinstance(value, dict):
        return {
            key: without_nulls(inner, properties.get(key, {}))
            for key, inner in value.items()
            if not (inner is None and key in properties)
        }
    return value


def violations(value: object, schema: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with a value by a structural schema and its rules; unknown properties count."""
    if not isinstance(value, TYPES[cast("str", schema["type"])]):
        yield "type"
        return
    enum = cast("list[str]", schema.get("enum", [value]))
    if value not in enum:
        yield "enum"
    if isinstance(value, str) and len(value) > cast("int", schema.get("maxLength", len(value))):
        yield "maxLength"
    if isinstance(value, dict):
        yield from of_mapping(value, schema)
    for rule in cast("list[str]", schema.get("rules", [])):
        if not holds(rule, value):
            yield rule


def of_mapping(value: dict[str, object], schema: Mapping[str, object]) -> Iterator[str]:
    properties = cast("Mapping[str, Mapping[str, object]]", schema.get("properties", {}))
    others = cast("Mapping[str, object] | None", schema.get("additionalProperties"))
    if not cast("int", schema.get("minProperties", 0)) <= len(value):
        yield "minProperties"
    if len(value) > cast("int", schema.get("maxProperties", len(value))):
        yield "maxProperties"
    for key, inner in value.items():
        if key in properties:
            yield from violations(inner, properties[key])
        elif others is not None:
            yield from violations(inner, others)
        else:
            yield f"unknown field {key}"


modes: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]),
    st.sampled_from(["strict", "", "STRICT ", "MUTUAL", "DISABLED", True, None, 1, [], {}]),
)
mtls = st.one_of(
    st.builds(lambda mode: {"mode": mode}, modes),
    st.sampled_from([{}, None, [], "STRICT", {"mode": "STRICT", "extra": 1}, {"Mode": "STRICT"}, True]),
)
ports = st.one_of(
    st.integers(-2, 3).map(str),
    st.integers(65533, 65538).map(str),
    st.sampled_from(
        ["8080", "080", "+80", "-80", "", "http", "8080.0", "0x50", "1e3", "80a", "8_0", "18446744073709551696"]
    ),
)
label_keys = st.sampled_from(["app", "a/b", "", "*", "app*", "é", "a b"])
label_values: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(["finance", "", "*", "a*", "a b", None, 1, True, [], {}]),
    st.integers(62, 65).map(lambda length: "é" * length),
)
labels: st.SearchStrategy[object] = st.one_of(
    st.dictionaries(label_keys, label_values, max_size=3), st.sampled_from([None, [], "app", {}])
)
many_labels = st.integers(4095, 4097).map(lambda count: {f"k{number}": "v" for number in range(count)})
selectors = st.one_of(
    st.builds(lambda pairs: {"matchLabels": pairs}, labels),
    st.just({"matchLabels": {"app": "finance"}}),
    st.sampled_from([{}, None, [], {"matchExpressions": []}, {"matchlabels": {"a": "b"}}]),
)
port_maps = st.one_of(st.dictionaries(ports, mtls, max_size=3), st.sampled_from([None, {}, [], "8080"]))
specs = st.one_of(
    st.fixed_dictionaries({}, optional={"selector": selectors, "mtls": mtls, "portLevelMtls": port_maps}),
    st.fixed_dictionaries({}, optional={"selector": selectors, "mtls": mtls, "portLevelMtl": port_maps}),
    st.sampled_from([{}, [], "STRICT"]),
)


def is_one_port_twice(spec: object) -> bool:
    entries = spec.get("portLevelMtls") if isinstance(spec, dict) else None
    numbers = [int(key) for key in entries if key.lstrip("+").isdigit()] if isinstance(entries, dict) else []
    return len(numbers) != len(set(numbers))


def accepted(spec: object) -> bool:
    resource = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "foo"},
        "spec": copy.deepcopy(spec),
    }
    checked = check(resource, place=FixedPlace())
    assert bool(checked.objects) is not bool(checked.diagnostics), "refused with a fault, or accepted without one"
    return bool(checked.objects)


@settings(max_examples=1500, deadline=None)
@given(specs)
@example({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"8080": {"mode": "STRICT"}, "8081": {}}})
@example({"selector": {"matchLabels": {"a": None}}, "portLevelMtls": {"8080": {}}})
@example({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"8080": None, "8081": {}}})
@example({"portLevelMtls": None, "mtls": None, "selector": None})
def test_the_verdict_is_the_crds(spec: object) -> None:
    wrong = list(violations(without_nulls_deep(spec), SPEC))
    event("refused" if wrong else "accepted")
    assert accepted(spec) is (not wrong and not is_one_port_twice(spec)), wrong


@settings(max_examples=6, deadline=None)
@given(many_labels)
def test_the_number_of_labels_is_the_crds(pairs: dict[str, str]) -> None:
    spec = {"selector": {"matchLabels": pairs}}
    assert accepted(spec) is not bool(list(violations(spec, SPEC)))
    assert accepted(spec) is (len(pairs) <= 4096)


def test_the_oracle_tells_right_from_wrong() -> None:
    """Or agreement with it would mean nothing."""
    assert not list(violations({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {}}}, SPEC))
    assert list(violations({"portLevelMtls": {"80": {}}}, SPEC))
    assert list(violations({"selector": {"matchLabels": {"a*": "b"}}}, SPEC))
    assert list(violations({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"65536": {}}}, SPEC))


def without_nulls_deep(spec: object) -> object:
    """`without_nulls` through the maps of ports too: a null port entry stays, a null mode in an entry goes."""
    pruned = without_nulls(spec, SPEC)
    if isinstance(pruned, dict) and isinstance(pruned.get("portLevelMtls"), dict):
        pruned["portLevelMtls"] = {key: without_nulls(entry, MTLS) for key, entry in pruned["portLevelMtls"].items()}
    return pruned
