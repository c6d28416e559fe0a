"""What was passed over and must be said all the same: what runs containers, and what is taken for a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.explain import origin_document
from peerauth.model.inventory import PassedOver, PassedOverBecause
from peerauth.model.world import World


def passed_over(world: World, because: PassedOverBecause) -> Iterator[PassedOver]:
    """What was passed over for one reason, in the order of names."""
    table = world.passed_over
    return (table[ref] for ref in sorted(table) if table[ref].because is because)


def not_understood(world: World) -> tuple[PassedOver, ...]:
    """What runs containers and is no workload here."""
    return tuple(passed_over(world, PassedOverBecause.NOT_UNDERSTOOD))


def not_understood_documents(runs: Sequence[PassedOver]) -> list[dict[str, object]]:
    """The `notUnderstood` member of the JSON contract."""
    return [
        {
            "namespace": one.meta.namespace,
            "name": one.meta.name,
            "kind": one.kind,
            "group": one.group,
            **origin_document(one.meta.origin),
        }
        for one in runs
    ]


def not_understood_sentence(runs: Sequence[PassedOver]) -> str:
    """The same in one line, for people; '' if there is nothing."""
    names = ", ".join(f"{one.subject} ({one.meta.origin})" for one in runs)
    return f"passed over, though it runs containers, as it is not understood: {names}" if runs else ""
