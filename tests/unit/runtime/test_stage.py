"""What a server does when a decision changes in the middle of a stage: no client is shut out that was told to come."""

from __future__ import annotations

import itertools

import pytest

from peerauth.policy.decision import EffectiveMode
from peerauth.runtime.control_plane import _Stage
from samples.sidecars import decided

MODES = ("DISABLE", "PERMISSIVE", "STRICT")


@pytest.mark.parametrize(("base", "target", "new"), list(itertools.product(MODES, repeat=3)))
def test_it_is_the_new_mode_unless_clients_were_told_to_connect_in_another_way(
    base: str, target: str, new: str
) -> None:
    stage = _Stage(decided("STRICT", {8080: base}), decided("STRICT", {8080: target}))
    met = stage.meet(decided("STRICT", {8080: new}))
    in_plaintext = {mode == "DISABLE" for mode in (base, target, new)}
    assert met.mode_of(8080) is EffectiveMode("PERMISSIVE" if len(in_plaintext) == 2 else new)
    assert met.mode_of(9000) is EffectiveMode.STRICT
