"""Files that are written while they are followed, by any writer: the mesh is never looser than before and after, and is
in the end what reading everything from scratch makes it, at the cost of what was edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from judges.standing import Standing, from_scratch
from peerauth.model.changes import MeshObject, Reset
from peerauth.model.inventory import WorkloadKey
from peerauth.model.schema import Checked
from peerauth.model.source import News
from peerauth.policy.decision import EffectiveMode
from peerauth.policy.mesh import Mesh
from peerauth.sources.followedfile import SETTLE_SECONDS
from peerauth.sources.following import Following
from peerauth.sources.reader import DocumentReader
from peerauth.sources.sighting import Look, Sighting, Signature
from samples.manifests import documents, namespace, pod, policy

ORDER = (EffectiveMode.DISABLE, EffectiveMode.PERMISSIVE, EffectiveMode.STRICT)
MODES = ("DISABLE", "PERMISSIVE", "STRICT")
FILES = ("a.yaml", "b.yaml", "c.yaml")

Content = Mapping[str, bytes]
"""Everything that is in the files at a time."""


class Disk:
    """Files as a kernel keeps them, a clock, and someone who looks whenever anything happens.

    `mesh` and `standing` take the changes as they come.
    """

    def __init__(self, content: Content, *, check: Callable[[Mesh], None] = lambda mesh: None) -> None:
        self.now = 1000.0
        self._inodes = iter(range(1, 10_000))
        self.files: dict[str, Signature] = {}
        self.data: dict[str, bytes] = {}
        self.writing: set[str] = set()
        self._check = check
        for name, data in content.items():
            self.create(name)
            self.write(name, data)
            self.writing.clear()
        self.following = Following()
        self.mesh = Mesh()
        self.standing = Standing()
        self.take(self.following.begin(self.look(), now=self.now))

    def look(self) -> Look:
        return Look(
            {
                name: Sighting(self.files[name], self.data[name], said(name, self.data[name]), name in self.writing)
                for name in sorted(self.files)
            }
        )

    def take(self, news: News) -> None:
        """One step."""
        names = {change.source.removeprefix("file:") for change in news.changes}
        assert len(names) == len(news.changes)
        assert names <= {"0.yaml", *FILES}
        step = self.mesh.apply(*news.changes)
        assert len(step.edits) == self.standing.take(news.changes)

    def seen(self) -> None:
        self.take(self.following.see(self.look(), now=self.now))
        self._check(self.mesh)
        again = self.following.again
        assert again is None or again > self.now

    def passes(self, seconds: float) -> None:
        """Time goes by; it is looked whenever that was asked for."""
        until = self.now + seconds
        self.seen()
        while (again := self.following.again) is not None and again <= until:
            self.now = again
            self.seen()
        self.now = until
        self.seen()

    def create(self, name: str) -> None:
        """As open(O_CREAT | O_TRUNC) does: what is there is emptied, and open for writing."""
        inode = self.files[name].inode if name in self.files else next(self._inodes)
        self.files[name] = Signature(1, inode, 0, self._stamp(), self._stamp())
        self.data[name] = b""
        self.writing.add(name)

    def write(self, name: str, data: bytes) -> None:
        self.data[name] += data
        self.files[name] = msgspec.structs.replace(
            self.files[name], size=len(self.data[name]), modified=self._stamp(), changed=self._stamp()
        )

    def unlink(self, name: str) -> None:
        self.files.pop(name, None)
        self.data.pop(name, None)
        self.writing.discard(name)

    def rename_over(self, name: str, data: bytes) -> None:
        self.files[name] = Signature(1, next(self._inodes), len(data), self._stamp(), self._stamp() + 1)
        self.data[name] = data

    def _stamp(self) -> int:
        return int(self.now * 1e9)


@lru_cache(maxsize=4096)
def said(name: str, data: bytes) -> tuple[Checked, ...]:
    return tuple(DocumentReader().stream(data, file=name))


DOCUMENTS = st.one_of(
    st.builds(lambda name: pod(name, ports={8080: "", 9000: ""}), st.sampled_from(["foo/finance", "foo/web"])),
    st.builds(policy, st.just("foo/default"), st.sampled_from(MODES)),
    st.builds(policy, st.just("istio-system/default"), st.sampled_from(MODES)),
    st.builds(
        lambda app, mode, port: policy(f"foo/{app}", mode, app=app, ports={8080: port}),
        st.sampled_from(["finance", "web"]),
        st.sampled_from(MODES),
        st.sampled_from(MODES),
    ),
)
FILE = st.lists(DOCUMENTS, min_size=1, max_size=3).map(lambda parts: documents(*parts).encode())
FOLDER = st.fixed_dictionaries({"0.yaml": st.just(namespace().encode())}, optional=dict.fromkeys(FILES, FILE))

PAUSE = st.one_of(st.just(0.0), st.floats(0.0, 3.0))


class Writer(NamedTuple):
    """How someone writes a file: where between the pieces are (and whether at the end of a line), and how long."""

    way: str
    cuts: list[tuple[float, bool]]
    pauses: list[float]


IN_PLACE = ("in place", "closing between", "unlinked first")
CUTS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=3)
PAUSES = st.lists(PAUSE, min_size=8, max_size=8)
WRITER = st.builds(Writer, st.sampled_from([*IN_PLACE, "rename"]), CUTS, PAUSES)
WRITER_IN_PLACE = st.builds(Writer, st.sampled_from(IN_PLACE), CUTS, PAUSES)


def write(disk: Disk, name: str, data: bytes | None, writer: Writer) -> None:
    """Brings one file from what it is to what it will be, by one way of writing, looked at in every state."""
    way, pauses = writer.way, iter(writer.pauses)
    if data is None:
        disk.unlink(name)
        disk.seen()
        return
    if way == "rename":
        disk.rename_over(name, data)
        disk.seen()
        return
    if way == "unlinked first":
        disk.unlink(name)
        disk.seen()
        disk.passes(min(next(pauses), 0.3))
    disk.create(name)
    disk.seen()
    for piece in _pieces(data, writer.cuts):
        disk.passes(next(pauses))  # someone has it open: however long that takes
        disk.write(name, piece)
        disk.seen()
        if way == "closing between" and len(disk.data[name]) < len(data):
            disk.writing.discard(name)
            disk.passes(min(next(pauses), 0.3))
            disk.writing.add(name)
            disk.seen()
    disk.writing.discard(name)
    disk.seen()


def _pieces(data: bytes, cuts: list[tuple[float, bool]]) -> Iterator[bytes]:
    at = 0
    for part, at_end_of_line in sorted(cuts):
        cut = int(part * len(data))
        cut = max(at, data.rfind(b"\n", 0, cut) + 1 if at_end_of_line else cut)
        yield data[at:cut]
        at = cut
    yield data[at:]


def strictness(mesh: Mesh) -> dict[tuple[WorkloadKey, int], int]:
    """How little every port of every workload lets in."""
    return {
        (key, port): ORDER.index(decision.in_force(port)) if decision.dataplane.enforces else -1
        for key, decision in mesh.decisions.items()
        for port in (8080, 9000, 1)
    }


def objects_of(content: Content) -> tuple[MeshObject, ...]:
    return tuple(obj for name in sorted(content) for document in said(name, content[name]) for obj in document.objects)


def mesh_of(content: Content) -> Mesh:
    mesh = Mesh()
    mesh.apply(Reset("test", objects_of(content)))
    return mesh


def never_looser(*whole: Content) -> Callable[[Mesh], None]:
    """Fails for a mesh that lets more in somewhere than each of these does, or lacks a workload that all have."""
    states = [strictness(mesh_of(content)) for content in whole]

    def check(mesh: Mesh) -> None:
        now = strictness(mesh)
        for port in set().union(*states, now):
            allowed = [state[port] for state in states if port in state]
            if len(allowed) == len(states):
                assert port in now
            assert port not in now or now[port] >= min(allowed, default=ORDER.index(EffectiveMode.STRICT))

    return check


def is_as_from_scratch(disk: Disk, content: Content) -> bool:
    """Whether what was taken change by change is what reading all of it now would make."""
    scratch = mesh_of(content)
    return disk.standing.by_ref == from_scratch(objects_of(content)) and dict(disk.mesh.decisions.items()) == dict(
        scratch.decisions.items()
    )


@given(before=FOLDER, after=FILE, writer=WRITER)
def test_whoever_writes_one_file_opens_nothing_on_the_way(
    before: dict[str, bytes], after: bytes, writer: Writer
) -> None:
    changed = {**before, "a.yaml": after}
    disk = Disk(before, check=never_looser(before, changed))
    write(disk, "a.yaml", after, writer)
    disk.passes(SETTLE_SECONDS)
    assert is_as_from_scratch(disk, changed)


@given(before=FOLDER, writer=st.builds(Writer, st.sampled_from(["in place", "rename"]), CUTS, PAUSES))
def test_a_file_that_is_written_again_with_the_same_bytes_changes_nothing_at_all(
    before: dict[str, bytes], writer: Writer
) -> None:
    def check(mesh: Mesh) -> None:
        assert strictness(mesh) == strictness(mesh_of(before))

    disk = Disk(before, check=check)
    for name, data in before.items():
        write(disk, name, data, writer)
    disk.passes(SETTLE_SECONDS)
    assert is_as_from_scratch(disk, before)


@given(
    before=FOLDER, after=FOLDER, writers=st.lists(WRITER_IN_PLACE, min_size=3, max_size=3), order=st.permutations(FILES)
)
def test_files_that_are_written_one_after_the_other_open_nothing_on_the_way(
    before: dict[str, bytes], after: dict[str, bytes], writers: list[Writer], order: list[str]
) -> None:
    """Also when a document moves from one to another. A rename takes effect at once, so there is none among them."""
    disk = Disk(before, check=never_looser(before, after))
    for name, writer in zip(order, writers, strict=True):
        if before.get(name) != after.get(name):
            write(disk, name, after.get(name), writer)
    disk.passes(SETTLE_SECONDS * 2)
    assert is_as_from_scratch(disk, after)
    assert disk.following.again is None
