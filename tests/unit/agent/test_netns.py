"""The order in which a workload's namespace is made. What the kernel does with it is in e2e/test_redirect.py."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from peerauth.agent import netns, nft, redirect
from peerauth.agent.netns import MeshNetwork, WorkloadNamespace
from peerauth.errors import PlatformError

ADDRESSES = ("10.0.0.7", "fd00::7")


class Step(NamedTuple):
    """One command of a network tool: its words, its standard input, the namespace that it was run in."""

    words: tuple[str, ...]
    text: str
    where: str


class Recorder:
    """Stands for this machine's tools; `fails` is the tool that says no."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.fails = ""

    async def run_tool(self, tool: str, *arguments: str, text: str = "", netns: str = "") -> str:
        self.steps.append(Step((tool, *arguments), text, netns))
        if tool == self.fails:
            raise PlatformError(f"{tool} failed")
        return ""

    async def link_is_up(self, made: WorkloadNamespace) -> None:
        self.steps.append(Step(("waited for the link",), "", made.path))

    def first(self, text: str) -> int:
        """Where the first step with a text in its words or its input stands."""
        return next(n for n, step in enumerate(self.steps) if text in " ".join(step.words) + "\n" + step.text)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(netns, "run_tool", made.run_tool)
    monkeypatch.setattr(redirect, "run_tool", made.run_tool)
    monkeypatch.setattr(netns, "_link_is_up", made.link_is_up)
    return made


async def test_a_namespace_is_captured_before_its_link_has_an_address_or_comes_up(recorder: Recorder) -> None:
    made = await MeshNetwork(instance="abcd").add("foo/finance", addresses=ADDRESSES)
    captured = recorder.first(nft.ruleset())
    assert recorder.steps[captured] == Step(("nft", "-f", "-"), nft.ruleset(), made.path)
    for before in recorder.steps[:captured]:
        for line in before.text.splitlines():
            assert "eth0" not in line or line.endswith(f"peer name eth0 netns {made.name}"), "nothing but making it"
    assert captured < recorder.first("addr add")
    assert captured < recorder.first("link set eth0 up")
    assert captured < recorder.first("waited for the link")


async def test_the_link_comes_up_after_its_addresses_and_before_its_routes(recorder: Recorder) -> None:
    await MeshNetwork(instance="abcd").add("foo/finance", addresses=ADDRESSES)
    lines = recorder.steps[recorder.first("link set eth0 up")].text.splitlines()
    kinds = [line.split()[0] if not line.endswith("eth0 up") else "up" for line in lines]
    assert kinds == ["link", "addr", "addr", "up", "route", "route"]


async def test_a_namespace_that_cannot_be_captured_never_comes_up_and_is_removed(recorder: Recorder) -> None:
    recorder.fails = "nft"
    network = MeshNetwork(instance="abcd")
    with pytest.raises(PlatformError):
        await network.add("foo/finance", addresses=ADDRESSES)
    assert not any("eth0 up" in step.text for step in recorder.steps)
    assert recorder.steps[-1].words[3:5] == ("link", "delete"), "nothing reaches it any more"
    recorder.fails = ""
    await network.add("foo/finance", addresses=ADDRESSES)  # what it had claimed is free again


async def test_only_a_client_outside_the_mesh_is_not_captured(recorder: Recorder) -> None:
    await MeshNetwork(instance="abcd").add("peerauth/probe", addresses=ADDRESSES, capture=False)
    assert not any(step.words[0] == "nft" for step in recorder.steps)
