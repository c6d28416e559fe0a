"""Every fault of a document, each at its place, by the description that `typed` converts by."""

from __future__ import annotations

from msgspec import inspect

from peerauth.model.schema.description import Rule, alternatives, document_of, plain
from peerauth.model.schema.faults import INVALID_PORT, INVALID_VALUE
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.report import Report, not_among, quoting_hint

_TYPES: dict[type[inspect.Type], tuple[type, str]] = {
    inspect.StrType: (str, "a string"),
    inspect.EnumType: (str, "a string"),
    inspect.BoolType: (bool, "true or false"),
    inspect.IntType: (int, "a number"),
    inspect.ListType: (list, "a list"),
    inspect.StructType: (dict, "a mapping"),
    inspect.DictType: (dict, "a mapping"),
}
"""What values of a type are, and what it is called."""


def walk(report: Report, value: object, described: inspect.Type, path: Path = ()) -> None:
    """Notes whatever is wrong with the value at `path`, which is not null, by the description of its type."""
    if report.is_full:
        return
    kind, said = plain(_meant(value, alternatives(described)))
    needed = isinstance(kind, inspect.StrType) and bool(kind.min_length)
    wanted = _wanted(value, kind)
    if wanted:
        hint = said.hint or (quoting_hint(value) if isinstance(kind, inspect.StrType) else "")
        report.wrong_type(value, path, said.wanted or wanted, hint=hint)
    if needed and (wanted or not value):
        report.missing(str(path[-1]), path[:-1])
    elif not wanted:
        _inside(report, value, kind, path)
        if said.rule is not None:
            _rule(report, said.rule, value, path)


def _meant(value: object, kinds: tuple[inspect.Type, ...]) -> inspect.Type:
    """Of several types that a value may have the one that it has, or else the first; an empty text is of none."""
    fitting = (kind for kind in kinds if value != "" and not _wanted(value, plain(kind)[0]))
    return next(fitting, kinds[0])


def _wanted(value: object, kind: inspect.Type) -> str:
    """What must be there in place of a value of another type; empty if it has this one."""
    python_type, wanted = _TYPES.get(type(kind), (object, ""))
    if isinstance(value, python_type) and isinstance(value, bool) <= (python_type in (bool, object)):
        return ""
    return f"one of {', '.join(_choices(kind))}" if isinstance(kind, inspect.EnumType) else wanted


def _inside(report: Report, value: object, kind: inspect.Type, path: Path) -> None:
    match kind, value:
        case inspect.StructType(), dict():
            _structure(report, value, kind, path)
        case inspect.DictType(), dict():
            if kind.max_length is not None and len(value) > kind.max_length:  # all that are limited are of labels
                message = f"{len(value)} labels, and at most {kind.max_length} are allowed"
                report.fault(INVALID_VALUE, message, path, at_key=True)
            _entries(report, value, kind, path)
        case inspect.ListType(), list():
            for index, item in enumerate(value):
                _member(report, item, kind.item_type, (*path, index))
        case inspect.IntType(), int():  # all numbers that are read are those of ports
            if not (kind.ge or value) <= value <= (kind.le or value):
                report.fault(INVALID_PORT, f"port {value} is not between {kind.ge} and {kind.le}", path)
        case inspect.EnumType(), str():
            choices = _choices(kind)
            if value not in choices:
                message, hint = not_among(value, choices)
                report.fault(INVALID_VALUE, message, path, hint=hint)


def _structure(report: Report, mapping: Mapping, kind: inspect.StructType, path: Path) -> None:
    document = document_of(kind)
    if kind.forbid_unknown_fields:
        report.unknown(mapping, [field.encode_name for field in kind.fields], path, hints=document.hints)
    for field in kind.fields:
        value, where = mapping.get(field.encode_name), (*path, field.encode_name)
        if value is not None:
            walk(report, value, field.type, where)
        if field.required and not isinstance(value, dict):
            of_field, said = plain(field.type)
            if value is None and not said.as_empty:
                report.missing(field.encode_name, path if mapping or not document.lacks_above else path[:-1])
            elif isinstance(of_field, inspect.StructType):
                _structure(report, {}, of_field, where)
    if document.rule is not None:
        _rule(report, document.rule, mapping, path)


def _entries(report: Report, mapping: Mapping, kind: inspect.DictType, path: Path) -> None:
    of_key = plain(kind.key_type)[1].rule
    for key, value in mapping.items():
        if of_key is not None:
            _rule(report, of_key, key, (*path, key), at_key=True)
        _member(report, value, kind.value_type, (*path, key))


def _member(report: Report, value: object, described: inspect.Type, path: Path) -> None:
    """An item of a list or an entry of a mapping, which may be null only where that is said."""
    may_be_null = isinstance(described, inspect.UnionType) and described.includes_none
    if value is not None or not may_be_null:
        walk(report, value, described, path)


def _choices(kind: inspect.EnumType) -> tuple[str, ...]:
    return tuple(str(member.value) for member in kind.cls)


def _rule(report: Report, rule: Rule, value: object, path: Path, *, at_key: bool = False) -> None:
    for trouble in rule.troubles(value):
        where = (*path, *trouble.path)
        report.fault(trouble.fault, trouble.message, where, hint=trouble.hint, at_key=at_key or trouble.at_key)
