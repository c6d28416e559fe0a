"""Label selectors of namespaces: `matchLabels` and `matchExpressions`, as the mesh configuration has them.

Source: Kubernetes' API reference (LabelSelector). A selector that Kubernetes refuses is a fault: istiod goes on without
any of them where one cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.mesh import Operator, Requirement, Selector
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.place import Mapping, Path

_OPERATORS = {operator.value: operator for operator in Operator}
_TAKES_VALUES = frozenset({Operator.IN, Operator.NOT_IN})


def namespace_selectors(fields: Fields, parent: Mapping, key: str, path: Path) -> tuple[Selector, ...]:
    """The selectors of the list `parent[key]`, of which any may match."""
    return tuple(tuple(_requirements(fields, selector, at)) for at, selector in fields.mappings(parent, key, path))


def _requirements(fields: Fields, selector: Mapping, path: Path) -> Iterator[Requirement]:
    for label, value in sorted(fields.labels(selector, "matchLabels", path)):
        yield Requirement(label, Operator.IN, (value,))
    for at, expression in fields.mappings(selector, "matchExpressions", path):
        name = fields.text(expression, "operator", at)
        label = fields.text(expression, "key", at)
        values = fields.texts(expression, "values", at)
        if not label:
            fields.missing("key", at)
        if not fields.one_of(name, _OPERATORS, (*at, "operator") if name else at):
            continue
        operator = _OPERATORS[name]
        if (operator in _TAKES_VALUES) != bool(values):
            wanted = "needs values" if operator in _TAKES_VALUES else "takes no values"
            fields.fault(INVALID_VALUE, f"the operator {name} {wanted}", (*at, "values") if values else at)
        yield Requirement(label, operator, values)
