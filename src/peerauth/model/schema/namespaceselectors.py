"""Label selectors of namespaces: `matchLabels` and `matchExpressions`, as the mesh configuration has them.

Source: Kubernetes' API reference (LabelSelector). A selector that Kubernetes refuses is a fault: istiod goes on without
any of them where one cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.model.mesh import Operator, Requirement, Selector
from peerauth.model.schema.description import Document, Rule, Trouble
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Labels, Needed
from peerauth.model.schema.place import Mapping
from peerauth.model.schema.report import not_among

_OPERATORS = {operator.value: operator for operator in Operator}
_TAKES_VALUES = frozenset({Operator.IN, Operator.NOT_IN})


def _expression_troubles(expression: Mapping) -> Iterator[Trouble]:
    name = expression.get("operator") or ""
    values = expression.get("values") or []
    if not isinstance(name, str) or not isinstance(values, list):
        return
    operator = _OPERATORS.get(name)
    if operator is None:
        message, hint = not_among(name, tuple(_OPERATORS))
        yield Trouble(INVALID_VALUE, message, ("operator",) if name else (), hint)
    elif (operator in _TAKES_VALUES) != bool(values):
        wanted = "needs values" if operator in _TAKES_VALUES else "takes no values"
        yield Trouble(INVALID_VALUE, f"the operator {name} {wanted}", ("values",) if values else ())


class Expression(Document):
    """One of `matchExpressions`."""

    rule = Rule(_expression_troubles)
    key: Needed
    operator: str | None = None
    values: list[str] | None = None


class LabelSelector(Document):
    """A selector: everything in it must hold."""

    match_labels: Labels | None = None
    match_expressions: list[Expression] | None = None


def namespace_selectors(selectors: Sequence[LabelSelector]) -> tuple[Selector, ...]:
    """The selectors of a list, of which any may match."""
    return tuple(tuple(_requirements(selector)) for selector in selectors)


def _requirements(selector: LabelSelector) -> Iterator[Requirement]:
    for label, value in sorted((selector.match_labels or {}).items()):
        yield Requirement(label, Operator.IN, (value,))
    for expression in selector.match_expressions or ():
        operator = _OPERATORS[expression.operator or ""]
        yield Requirement(expression.key, operator, tuple(expression.values or ()))
