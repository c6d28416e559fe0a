"""Dialogues with a discovery session, written as conversations.

    playbook = Playbook(variant=Variant.DELTA, view={LISTENER: {"a": b"1"}})
    (playbook
        >> request(LISTENER)
        << response(LISTENER, {"a": b"1"})
        >> ack(LISTENER))

`>>` is what the client sends or what changes; `<<` is the next message that the session must send. Whatever the session
sends must be expected before the next `>>`, and `quiet()` says that nothing more was sent. The end of the test is the
end of its dialogues (`end_all`): nothing may be left that was not expected, a closed stream neither. What the session
recorded is in `records`. Messages are made and read by protobuf, so the session's own bytes are judged by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.type_urls import LISTENER, TypeUrl
from peerauth.xds import wire
from peerauth.xds.cache import ResourceCache
from peerauth.xds.dialect import ENVOY, Dialect
from peerauth.xds.session import Session
from peerauth.xds.wire import Close, CloseCode, Command, ProxyKey, SecondChance, Send, Variant
from rigs.destinations import Source

PROXY = ProxyKey("sidecar~finance.foo")


@dataclass(frozen=True)
class Says:
    """The client sends. A nonce of None is that of the last answer of the type."""

    type_url: TypeUrl
    names: Sequence[str] = ()
    unsubscribe: Sequence[str] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    nonce: str | None = None
    error: str | None = None
    node: str = ""
    spontaneous: bool = False  # delta: answers nothing, so it has no nonce


@dataclass(frozen=True)
class Changes:
    """The proxy's resources of a type become these."""

    type_url: TypeUrl
    bodies: Mapping[str, bytes]


@dataclass(frozen=True)
class Offers:
    """What is on demand becomes this; None: nothing."""

    bodies: Mapping[tuple[TypeUrl, str], bytes | None]


@dataclass(frozen=True)
class Answers:
    """The session sends exactly these resources and removals."""

    type_url: TypeUrl
    bodies: Mapping[str, bytes]
    removed: frozenset[str]


def request(
    type_url: TypeUrl, *names: str, held: Mapping[str, bytes] | None = None, version: str = "", node: str = ""
) -> Says:
    """A first request; `held` is name to body as the client has it from an earlier stream."""
    versions = {name: version_of(body) if body else "" for name, body in (held or {}).items()}
    return Says(type_url, names, held=versions, version=version, nonce="", node=node)


def subscribe(type_url: TypeUrl, *names: str, unsubscribe: Sequence[str] = ()) -> Says:
    """A change of the subscription that acknowledges nothing (state of the world: all names, with the last nonce)."""
    return Says(type_url, names, unsubscribe=unsubscribe, spontaneous=True)


def ack(type_url: TypeUrl, *names: str, nonce: str | None = None) -> Says:
    return Says(type_url, names, nonce=nonce)


def nack(type_url: TypeUrl, error: str, *names: str, nonce: str | None = None) -> Says:
    return Says(type_url, names, error=error, nonce=nonce)


def change(type_url: TypeUrl, bodies: Mapping[str, bytes]) -> Changes:
    return Changes(type_url, bodies)


def offer(type_url: TypeUrl, bodies: Mapping[str, bytes | None]) -> Offers:
    return Offers({(type_url, name): body for name, body in bodies.items()})


def response(type_url: TypeUrl, bodies: Mapping[str, bytes] | None = None, removed: Collection[str] = ()) -> Answers:
    return Answers(type_url, bodies or {}, frozenset(removed))


def version_of(body: bytes) -> str:
    return wire.Resource.of(LISTENER, name="any", body=body).version


_in_progress: list[Playbook] = []


def end_all() -> None:
    """Ends every dialogue that was begun since the last call; AssertionError for what one of them left unsaid."""
    begun = _in_progress[:]
    _in_progress.clear()
    for playbook in begun:
        playbook.end()


class Playbook:
    """A session, a cache behind it, and the conversation so far."""

    def __init__(
        self,
        variant: Variant,
        view: Mapping[TypeUrl, Mapping[str, bytes]],
        *,
        dialect: Dialect = ENVOY,
        only: TypeUrl | None = None,
    ) -> None:
        self.variant = variant
        self.source = Source()
        self.cache = ResourceCache()
        self.cache.replace(PROXY, view)
        self.cache.on_demand(PROXY, self.source)
        self._view = self.cache.open(PROXY, lambda: None)
        self.session = Session(PROXY, variant=variant, dialect=dialect, view=self._view, only=only)
        self.records: list[Command] = []
        self._closed: CloseCode | None = None
        self._closing_is_expected = False
        self.nonces: dict[TypeUrl, str] = {}
        self.versions: dict[TypeUrl, str] = {}
        self._sent: deque[Answers] = deque()
        self._transcript: list[object] = []
        _in_progress.append(self)

    def __rshift__(self, step: Says | Changes | Offers | SecondChance) -> Playbook:
        self.quiet()
        self._transcript.append(step)
        match step:
            case Changes(type_url=type_url, bodies=bodies):
                self.cache.set(PROXY, type_url, bodies)
                self.hear()
            case Offers(bodies=offered):
                self.source.put(offered)
                self.cache.changed(self.source, {name for _, name in offered})
                self.hear()
            case SecondChance():
                self._feed(step)
            case Says():
                self._feed(wire.RequestReceived(self._encode(step)))
        return self

    def together(self, *steps: Changes) -> Playbook:
        """Several types change at once, before the session hears of any."""
        self.quiet()
        self._transcript.append(steps)
        for step in steps:
            self.cache.set(PROXY, step.type_url, step.bodies)
        self.hear()
        return self

    def __lshift__(self, expected: Answers) -> Playbook:
        assert self._sent, self._story(f"expected {expected}, but nothing was sent")
        answer = self._sent.popleft()
        assert answer == expected, self._story(f"expected {expected}\n     got {answer}")
        self._transcript.append(answer)
        return self

    def next_answer(self) -> Answers | None:
        """Whatever the session has sent next, taken as expected; None if it has sent nothing more."""
        return self._sent.popleft() if self._sent else None

    def quiet(self) -> Playbook:
        assert not self._sent, self._story(f"not expected: {list(self._sent)}")
        return self

    def hang_up(self) -> None:
        """The stream ends."""
        self.quiet()
        self._view.close()

    def turn_to(self, source: Source | None) -> Playbook:
        """What is on demand comes from another source, or from none."""
        self.quiet()
        self._transcript.append(source)
        self.cache.on_demand(PROXY, source)
        self.hear()
        return self

    @property
    def closed(self) -> CloseCode | None:
        """Why the session closed the stream, if it did. Who asks has thought of it: otherwise it must not happen."""
        self._closing_is_expected = True
        return self._closed

    def end(self) -> None:
        """Nothing more was sent, and the stream is open unless the test has looked at why it is not."""
        self.quiet()
        assert self._closed is None or self._closing_is_expected, self._story(f"closed, not expected: {self._closed}")

    def hear(self) -> None:
        """The session hears the news, if there are any."""
        if (news := self._view.drain()) is not None:
            self._feed(news)

    def _feed(self, event: wire.Event) -> None:
        for command in self.session.receive(event):
            match command:
                case Send(data=data):
                    self._sent.append(self._decode(data))
                case Close(code=code):
                    self._closed = code
                case _:
                    self.records.append(command)

    def _encode(self, says: Says) -> bytes:
        nonce = self.nonces.get(says.type_url, "") if says.nonce is None else says.nonce
        message: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest
        if self.variant is Variant.STATE:
            message = discovery_pb2.DiscoveryRequest(
                type_url=says.type_url, resource_names=says.names, response_nonce=nonce, version_info=says.version
            )
        else:
            message = discovery_pb2.DeltaDiscoveryRequest(
                type_url=says.type_url,
                resource_names_subscribe=says.names,
                resource_names_unsubscribe=says.unsubscribe,
                initial_resource_versions=says.held,
                response_nonce="" if says.spontaneous else nonce,
            )
        if says.error is not None:
            message.error_detail.code = 13
            message.error_detail.message = says.error
        if says.node:
            message.node.id = says.node
        return message.SerializeToString()

    def _decode(self, data: bytes) -> Answers:
        if self.variant is Variant.STATE:
            state = discovery_pb2.DiscoveryResponse.FromString(data)
            type_url = TypeUrl(state.type_url)
            self.versions[type_url] = state.version_info
            # A resource's name is inside its body, which is opaque here: tests of this variant use "name=..." bodies.
            bodies = {each.value.partition(b"=")[0].decode(): each.value for each in state.resources}
            self.nonces[type_url] = state.nonce
            return Answers(type_url, bodies, frozenset())
        delta = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        type_url = TypeUrl(delta.type_url)
        self.nonces[type_url] = delta.nonce
        for each in delta.resources:
            assert each.resource.type_url == type_url
            assert each.version == version_of(each.resource.value)
        return Answers(
            type_url, {each.name: each.resource.value for each in delta.resources}, frozenset(delta.removed_resources)
        )

    def _story(self, problem: str) -> str:
        return "\n".join([*(f"  {step}" for step in self._transcript), problem])
