"""Typed documents: what is read of a kind and what is allowed there, said once.

A `Document` names the fields that are read, with their types; whatever else there is, is passed over. What msgspec can
hold values to (types, bounds of numbers, enumerations, whether unknown fields are refused) is left to it. The rest is a
`Rule`, of a field or of the whole structure. `typed` converts by the description, and `walker` finds every fault by it.
Absent and null are the same, as in Kubernetes, which drops nulls before it validates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import ClassVar, NamedTuple, cast, dataclass_transform

import msgspec
from msgspec import inspect

from peerauth.model.schema import place
from peerauth.model.schema.faults import Fault
from peerauth.model.schema.names import remembered
from peerauth.model.schema.report import not_among, shortened

Holds = Callable[..., object]


class Trouble(NamedTuple):
    """Something that is wrong with a value; `path` leads from it to where that is."""

    fault: Fault
    message: str
    path: place.Path = ()
    hint: str = ""
    at_key: bool = False


class Rule:
    """What a value must be beyond its type.

    `holds` is asked of values that have that. `troubles` says what is wrong: something if and only if the rule does not
    hold. A rule of a structure is asked about its plain mapping, of which `troubles` may find other values faulty.
    """

    __slots__ = ("holds", "troubles")

    def __init__(self, troubles: Callable[..., Iterable[Trouble]], *, holds: Holds | None = None) -> None:
        self.troubles = troubles
        self.holds = holds or (lambda value: not any(troubles(value)))


def rule_of_texts(troubles: Callable[[str], Iterable[Trouble]]) -> Rule:
    """The rule that there is no trouble with a text."""
    return Rule(troubles, holds=remembered(lambda text: not any(troubles(text))))


def text_rule(fault: Fault, holds: Holds, said: str, *, hint: str = "", or_empty: bool = False) -> Rule:
    """The rule that `holds` is true of a text; `said` continues the sentence that begins with the text.

    With `or_empty` the empty text is one that says nothing.
    """
    allowed = remembered(lambda text: not text or holds(text)) if or_empty else holds

    def troubles(text: str) -> Iterator[Trouble]:
        if not allowed(text):
            yield Trouble(fault, f"{shortened(text)!r} {said}", hint=hint)

    return Rule(troubles, holds=allowed)


def one_of(fault: Fault, choices: Iterable[str], *, or_empty: bool = True) -> Rule:
    """The rule that a text is one of the choices, or empty, which says nothing."""
    allowed = tuple(choices)
    known = frozenset((*allowed, "") if or_empty else allowed)

    def troubles(text: str) -> Iterator[Trouble]:
        if text not in known:
            message, hint = not_among(text, allowed)
            yield Trouble(fault, message, hint=hint)

    return Rule(troubles, holds=known.__contains__)


class Said(msgspec.Struct, frozen=True):
    """What a description says of a value beside its type, in `Meta.extra`.

    `wanted` and `hint` are for a value of another type. `as_empty`: where there is no such structure, what is said is
    what an empty one lacks.
    """

    rule: Rule | None = None
    wanted: str = ""
    hint: str = ""
    as_empty: bool = False


_NOTHING_SAID = Said()


def extra(rule: Rule | None = None, *, wanted: str = "", hint: str = "", as_empty: bool = False) -> dict[str, Said]:
    """The `extra` of a `Meta`."""
    return {"said": Said(rule, wanted, hint, as_empty)}


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Document(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A structure of which the named fields are read. `hints` has advice for unknown fields, where those are refused.

    `lacks_above`: what an empty one lacks is said of what holds it.
    """

    rule: ClassVar[Rule | None] = None
    hints: ClassVar[Mapping[str, str]] = {}
    lacks_above: ClassVar[bool] = False


@cache
def described(kind: type[Document]) -> inspect.StructType:
    """The description of a document as msgspec has it."""
    return cast("inspect.StructType", inspect.type_info(kind))


def document_of(described: inspect.StructType) -> type[Document]:
    """The document that was described."""
    return cast("type[Document]", described.cls)


def plain(described: inspect.Type) -> tuple[inspect.Type, Said]:
    """A type without what is said beside it, and that."""
    said = _NOTHING_SAID
    while isinstance(described, inspect.Metadata):
        found = (described.extra or {}).get("said")
        said = found if isinstance(found, Said) else said
        described = described.type
    return described, said


def alternatives(described: inspect.Type) -> tuple[inspect.Type, ...]:
    """The types of which a value may have any; null is not among them."""
    kinds = described.types if isinstance(described, inspect.UnionType) else (described,)
    return tuple(kind for kind in kinds if not isinstance(kind, inspect.NoneType))


@cache
def rules_of(kind: type[Document]) -> Holds:
    """Whether all rules hold in a plain mapping that msgspec has converted to this document."""
    return _rules_of_structure(described(kind)) or _always


def _always(_: object) -> object:
    return True


def _rules(described: inspect.Type) -> Holds | None:
    """Whether the rules at and below a type hold of a value that is not null; None if there are none."""
    found = [test for kind in alternatives(described) if (test := _rules_of_one(kind)) is not None]
    if len(found) > 1 or (found and len(alternatives(described)) > 1):
        raise TypeError(f"of several types of a value none may have a rule: {described}")
    return found[0] if found else None


def _rules_of_one(described: inspect.Type) -> Holds | None:
    kind, said = plain(described)
    own = said.rule.holds if said.rule else None
    match kind:
        case inspect.StructType():
            below = _rules_of_structure(kind)
        case inspect.ListType():
            below = _rules_of_items(_rules_of_member(kind.item_type))
        case inspect.DictType():
            below = _rules_of_entries(_rules(kind.key_type), _rules_of_member(kind.value_type))
        case _:
            below = None
    if below is None or own is None:
        return below or own
    return lambda value: below(value) and own(value)


def _rules_of_structure(kind: inspect.StructType) -> Holds | None:
    found = [(field.encode_name, test) for field in kind.fields if (test := _rules(field.type)) is not None]
    own = document_of(kind).rule
    if not found:
        return own.holds if own else None

    def hold(mapping: place.Mapping) -> object:
        for key, test in found:
            value = mapping.get(key)
            if value is not None and not test(value):
                return False
        return own is None or own.holds(mapping)

    return hold


def _rules_of_member(described: inspect.Type) -> Holds | None:
    test = _rules(described)
    if test is not None and isinstance(described, inspect.UnionType):
        raise TypeError(f"what may be null in a list or mapping may have no rule: {described}")
    return test


def _rules_of_items(test: Holds | None) -> Holds | None:
    return None if test is None else lambda items: all(map(test, items))


def _rules_of_entries(of_keys: Holds | None, of_values: Holds | None) -> Holds | None:
    if of_keys is None or of_values is None:
        values = _rules_of_items(of_values)
        return _rules_of_items(of_keys) if values is None else lambda entries: values(entries.values())
    return lambda entries: all(map(of_keys, entries)) and all(map(of_values, entries.values()))


class Outline:
    """What of a value is read: `fields` of a mapping, all else in it if `others`, and of each item or entry `each`.

    None in place of one stands for all that is there.
    """

    __slots__ = ("each", "fields", "is_list", "others")

    def __init__(
        self,
        *,
        fields: Mapping[str, Outline | None] | None = None,
        others: bool = True,
        each: Outline | None = None,
        is_list: bool = False,
    ) -> None:
        self.fields = fields or {}
        self.others = others
        self.each = each
        self.is_list = is_list

    def reads(self, step: str | int) -> bool:
        """Whether anything of the value at a key or index is read."""
        return self.others or step in self.fields

    def below(self, step: str | int) -> Outline | None:
        """What of the value at a key or index is read."""
        return self.fields.get(step, self.each) if isinstance(step, str) else self.each


def outline(described: inspect.Type, *, besides: Iterable[str] = ()) -> Outline | None:
    """What of a value of a type is read; `besides` are fields that are read without being described."""
    kinds = alternatives(described)
    kind = plain(kinds[0])[0] if len(kinds) == 1 else None
    match kind:
        case inspect.StructType():
            fields: dict[str, Outline | None] = dict.fromkeys(besides)
            fields |= {field.encode_name: outline(field.type) for field in kind.fields}
            return Outline(fields=fields, others=kind.forbid_unknown_fields)
        case inspect.ListType():
            each = outline(kind.item_type)
            return None if each is None else Outline(each=each, is_list=True)
        case inspect.DictType():
            each = outline(kind.value_type)
            return None if each is None else Outline(each=each)
        case _:
            return None
