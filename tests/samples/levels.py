"""Every mode at every level, as policies for the workloads of an example, and the mode that each port then has.

What follows from a mode differs between the data planes, so each has a table of its own beside its tests. The policies
select workloads of the namespace `foo` by their labels, which all examples share.
"""

from __future__ import annotations

from collections.abc import Mapping

from peerauth.model.inventory import WorkloadKey
from peerauth.probe.kinds import Outcome
from rigs.mesh_on_this_machine import FINANCE, WEB, policy

LEDGER = WorkloadKey("bar", "ledger", "Deployment")
UNDECLARED = 18080

IN, APP, NO = "reaches the application", "its own bytes reach the application", "refused"
SEEN = {Outcome.ACCEPTED: IN, Outcome.PASSED_THROUGH: APP, Outcome.REFUSED: NO}

S, P, D = "STRICT", "PERMISSIVE", "DISABLE"
Ports = Mapping[tuple[WorkloadKey, int], str]


def ports(finance_8080: str, finance_9000: str, web: str, *, finance: str, ledger: str = "") -> Ports:
    """Modes by port; `finance` is for the port of finance that no one declared, web has one mode for all."""
    found = {
        (FINANCE, 8080): finance_8080,
        (FINANCE, 9000): finance_9000,
        (FINANCE, UNDECLARED): finance,
        (WEB, 8080): web,
        (WEB, UNDECLARED): web,
    }
    return found | {(LEDGER, 8080): ledger, (LEDGER, UNDECLARED): ledger} if ledger else found


ROOT = "istio-system"
LEVELS: dict[str, tuple[tuple[str, ...], Ports]] = {
    "nothing at all": ((), ports(P, P, P, finance=P)),
    "mesh STRICT": ((policy(ROOT, S),), ports(S, S, S, finance=S)),
    "mesh PERMISSIVE": ((policy(ROOT, P),), ports(P, P, P, finance=P)),
    "mesh DISABLE": ((policy(ROOT, D),), ports(D, D, D, finance=D)),
    "mesh UNSET": ((policy(ROOT, "UNSET"),), ports(P, P, P, finance=P)),
    "namespace STRICT over mesh DISABLE": ((policy(ROOT, D), policy("foo", S)), ports(S, S, S, finance=S)),
    "namespace PERMISSIVE over mesh STRICT": ((policy(ROOT, S), policy("foo", P)), ports(P, P, P, finance=P)),
    "namespace DISABLE over mesh STRICT": ((policy(ROOT, S), policy("foo", D)), ports(D, D, D, finance=D)),
    "namespace UNSET under mesh STRICT": ((policy(ROOT, S), policy("foo", "UNSET")), ports(S, S, S, finance=S)),
    "workload STRICT over namespace DISABLE": (
        (policy("foo", D), policy("foo", S, app="finance")),
        ports(S, S, D, finance=S),
    ),
    "workload PERMISSIVE over namespace STRICT": (
        (policy("foo", S), policy("foo", P, app="finance")),
        ports(P, P, S, finance=P),
    ),
    "workload DISABLE over namespace STRICT": (
        (policy("foo", S), policy("foo", D, app="finance")),
        ports(D, D, S, finance=D),
    ),
    "workload UNSET under namespace STRICT": (
        (policy("foo", S), policy("foo", "UNSET", app="finance")),
        ports(S, S, S, finance=S),
    ),
    "port STRICT over workload PERMISSIVE": (
        (policy("foo", P, app="finance", ports={8080: S}),),
        ports(S, P, P, finance=P),
    ),
    "port PERMISSIVE over workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: P}),),
        ports(P, S, P, finance=S),
    ),
    "port DISABLE over workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: D}),),
        ports(D, S, P, finance=S),
    ),
    "port UNSET under workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: "UNSET"}),),
        ports(S, S, P, finance=S),
    ),
    "a port that no one declared STRICT over workload PERMISSIVE": (
        (policy("foo", P, app="finance", ports={UNDECLARED: S}),),
        ports(P, P, P, finance=S),
    ),
    "a port that no one declared PERMISSIVE over workload STRICT": (
        (policy("foo", S, app="finance", ports={UNDECLARED: P}),),
        ports(S, S, P, finance=P),
    ),
    "a port that no one declared DISABLE over workload STRICT": (
        (policy("foo", S, app="finance", ports={UNDECLARED: D}),),
        ports(S, S, P, finance=D),
    ),
}
