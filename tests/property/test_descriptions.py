"""Files as sources of their own, edited one after the other or several at once, are what reading all of them again is.

What is read again is one source, as in a command that reads once: of two descriptions of one object the last stands.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from judges.standing import from_scratch
from peerauth.model.changes import Edit, Ledger, MeshObject, ObjectRef, Reset, ref_of
from peerauth.model.peerauth import Mode
from peerauth.policy.mesh import Mesh
from peerauth.policy.rehearsal import Rehearsal
from peerauth.sources.descriptions import Description, Descriptions, place_of
from samples.meshes import policy, policy_objects

NAMES = ("a.yaml", "b.yaml", "b/a.yaml", "c.yaml")
# Few names, so that files describe the same objects, and at times come to stand elsewhere in the order of reading.
OBJECTS = st.one_of(st.builds(policy, st.sampled_from(["foo/a", "foo/b"]), st.sampled_from(Mode)), policy_objects())
FILE = st.none() | st.builds(
    lambda argument, objects: (argument, tuple(objects)),
    st.integers(0, 1),
    st.lists(OBJECTS, max_size=4),
)
EDIT = st.dictionaries(st.sampled_from(NAMES), FILE, max_size=3)

Files = Mapping[str, tuple[int, tuple[MeshObject, ...]] | None]


def described(edit: Files) -> dict[str, Description | None]:
    return {
        name: Description(place_of(name, argument=file[0]), {ref_of(obj): obj for obj in file[1]}) if file else None
        for name, file in edit.items()
    }


def read(files: Files) -> tuple[MeshObject, ...]:
    """Everything, in the order of reading."""
    there = [
        (argument, name.split("/"), objects) for name, file in files.items() if file for argument, objects in [file]
    ]
    return tuple(obj for _, _, objects in sorted(there, key=lambda each: each[:2]) for obj in objects)


def as_set(edits: tuple[Edit, ...]) -> dict[ObjectRef, Edit]:
    return {edit.ref: edit for edit in edits}


@given(history=st.lists(EDIT, max_size=6))
def test_edits_of_files_do_what_reading_everything_again_does_and_no_more(history: list[Files]) -> None:
    files: dict[str, tuple[int, tuple[MeshObject, ...]] | None] = {}
    descriptions, ledger, of_all = Descriptions(), Ledger(), Ledger()
    for edit in history:
        resets = descriptions.resets(described(edit))
        descriptions.take(described(edit))
        files.update(edit)
        edits = ledger.apply(*resets)
        assert as_set(edits) == as_set(of_all.apply(Reset("files", read(files))))
        assert len(as_set(edits)) == len(edits)
        assert bool(resets) >= bool(edits)
        assert descriptions.resets(described(files)) == ()


@given(history=st.lists(EDIT, min_size=2, max_size=6))
def test_what_is_heard_of_each_object_is_one_file_s_word(history: list[Files]) -> None:
    files: dict[str, tuple[int, tuple[MeshObject, ...]] | None] = {}
    descriptions = Descriptions()
    heard: dict[str, tuple[MeshObject, ...]] = {}
    for edit in history:
        changes = descriptions.resets(described(edit))
        descriptions.take(described(edit))
        files.update(edit)
        heard.update({change.source: change.objects for change in changes})
        said = [obj for objects in heard.values() for obj in objects]
        assert len({ref_of(obj) for obj in said}) == len(said)
        assert {ref_of(obj): obj for obj in said} == from_scratch(read(files))


@given(before=EDIT, tried=EDIT, after=EDIT)
def test_a_trial_leaves_nothing_behind(before: Files, tried: Files, after: Files) -> None:
    descriptions, rehearsal, mesh = Descriptions(), Rehearsal(), Mesh()
    for step, is_taken in ((before, True), (tried, False), (after, True)):
        changes = descriptions.resets(described(step))
        with rehearsal.trial(changes) as trial:
            world = dict(rehearsal.world.policies), dict(rehearsal.world.workloads)
        if is_taken:
            descriptions.take(described(step))
            rehearsal.take(changes)
            taken = mesh.apply(*changes)
            assert as_set(trial.edits) == as_set(taken.edits)
            assert {each.key: each for each in trial.decisions} == {each.key: each for each in taken.decisions}
            assert world == (dict(mesh.world.policies), dict(mesh.world.workloads))
