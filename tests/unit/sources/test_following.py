"""Which edits are taken at which look: what tightens does not wait, and what waits is said."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from judges.standing import Standing
from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.mesh import MeshConfig
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.model.schema.faults import UNREADABLE
from peerauth.model.source import News
from peerauth.model.world import Name, World
from peerauth.sources.followedfile import PATIENCE_SECONDS, SETTLE_SECONDS, FollowedFile
from peerauth.sources.following import Accept, Following
from peerauth.sources.reader import DocumentReader
from peerauth.sources.sighting import Look, Sighting, Signature
from samples.manifests import documents, namespace, pod, policy

MESH = documents(namespace(), *(pod(f"foo/p{number}") for number in range(20)))


def look(files: Mapping[str, str], *, writing: str = "", unreadable: str = "") -> Look:
    """Files by name and text; whatever their text is, they are the same file, written just now."""
    return Look(
        {
            name: Sighting(
                Signature(inode=number, size=len(text)),
                text.encode(),
                tuple(DocumentReader().stream(text.encode(), file=name)),
                in_writing=name == writing,
            )
            for number, (name, text) in enumerate(sorted({"0.yaml": MESH, **files}.items()))
        },
        {unreadable: UNREADABLE.at(message="gone")} if unreadable else {},
    )


def of(number: int, mode: str) -> str:
    return policy(f"foo/p{number}", mode, app=f"p{number}")


class Followed:
    """Files that are followed, and what is in force of them."""

    def __init__(self, first: Look, *, accept: Accept = lambda mesh, world: ()) -> None:
        self._following = Following(accept=accept)
        self._standing = Standing()
        self._standing.take(self._following.begin(first, now=0.0).changes)

    @property
    def again(self) -> float | None:
        return self._following.again

    @property
    def objects(self) -> tuple[MeshObject, ...]:
        return self._standing.objects

    def see(self, seen: Look, *, now: float) -> News:
        news = self._following.see(seen, now=now)
        self._standing.take(news.changes)
        return news


def modes(following: Followed) -> dict[str, Mode]:
    return {each.meta.name: each.mode for each in following.objects if isinstance(each, PeerAuthentication)}


@pytest.mark.parametrize("others", [1, 15])
def test_what_tightens_in_one_file_does_not_wait_for_what_loosens_in_others(others: int) -> None:
    before = {"a.yaml": of(0, "PERMISSIVE")} | {f"b{n}.yaml": of(n, "STRICT") for n in range(1, 1 + others)}
    after = {"a.yaml": of(0, "STRICT")} | {f"b{n}.yaml": of(n, "PERMISSIVE") for n in range(1, 1 + others)}
    following = Followed(look(before))
    following.see(look(after), now=10.0)
    assert set(modes(following).values()) == {Mode.STRICT}
    assert following.again == pytest.approx(10.0 + SETTLE_SECONDS)
    following.see(look(after), now=10.0 + SETTLE_SECONDS)
    assert modes(following) == {"p0": Mode.STRICT} | {f"p{n}": Mode.PERMISSIVE for n in range(1, 1 + others)}


def test_a_file_that_loosens_and_tightens_waits_and_holds_up_no_other() -> None:
    before = {"a.yaml": documents(of(0, "STRICT"), of(1, "PERMISSIVE")), "b.yaml": of(2, "PERMISSIVE")}
    following = Followed(look(before))
    following.see(look({"a.yaml": documents(of(0, "PERMISSIVE"), of(1, "STRICT")), "b.yaml": of(2, "STRICT")}), now=1.0)
    assert modes(following) == {"p0": Mode.STRICT, "p1": Mode.PERMISSIVE, "p2": Mode.STRICT}


def test_of_two_files_that_say_one_object_the_last_stands_while_its_removal_waits() -> None:
    following = Followed(look({"a.yaml": of(0, "PERMISSIVE"), "b.yaml": of(0, "STRICT")}))
    removed = look({"a.yaml": of(0, "PERMISSIVE")})
    following.see(removed, now=1.0)
    assert [each.mode for each in following.objects if isinstance(each, PeerAuthentication)][-1] is Mode.STRICT
    following.see(removed, now=1.0 + SETTLE_SECONDS)
    assert modes(following) == {"p0": Mode.PERMISSIVE}


def test_what_nobody_can_look_at_stays_is_said_once_and_again_when_it_is_over() -> None:
    files = {"pol/a.yaml": of(0, "STRICT"), "b.yaml": of(1, "PERMISSIVE")}
    following = Followed(look(files))
    gone = look({"b.yaml": of(1, "STRICT")}, unreadable="pol")
    said = [following.see(gone, now=now) for now in (1.0, 1.0 + SETTLE_SECONDS, 60.0)]
    assert modes(following) == {"p0": Mode.STRICT, "p1": Mode.STRICT}
    assert [len(news.held) for news in said] == [0, 1, 0]
    assert following.see(look(files | {"b.yaml": of(1, "STRICT")}), now=70.0).mended == ("pol",)


def test_what_waits_for_a_file_without_end_is_said_with_its_name() -> None:
    before = {"a.yaml": of(0, "STRICT"), "b.yaml": of(1, "STRICT")}
    following = Followed(look(before))
    told: list[Diagnostic] = []
    for step in range(int(PATIENCE_SECONDS / 0.5) + 2):
        never_still = of(1, "STRICT") + "#" * step + "\n"
        told += following.see(look({"a.yaml": of(0, "PERMISSIVE"), "b.yaml": never_still}), now=1.0 + step / 2).held
    assert modes(following)["p0"] is Mode.STRICT
    assert [(each.origin.file, each.code, "b.yaml" in each.message) for each in told] == [
        ("a.yaml", "file-waits", True)
    ]


def test_an_edit_to_which_the_mesh_cannot_be_changed_is_left_out_with_its_reason() -> None:
    reason = Diagnostic("no", Severity.ERROR, "not here")

    def accept(_: MeshConfig, world: World) -> list[Diagnostic]:
        return [reason] if Name("foo", "p3") in world.policies else []

    names = [f"{letter}.yaml" for letter in "abcdefgh"]
    before = look({name: of(n, "PERMISSIVE") for n, name in enumerate(names) if n != 3})
    following = Followed(before, accept=accept)
    after = look({name: of(n, "STRICT") for n, name in enumerate(names)})
    news: list[News] = [following.see(after, now=now) for now in (1.0, 1.0 + SETTLE_SECONDS, 60.0)]
    assert modes(following) == {f"p{n}": Mode.STRICT for n in range(8) if n != 3}
    assert [each for one in news for each in one.held] == [reason]


def test_edits_to_which_the_mesh_cannot_be_changed_together_are_all_left_out() -> None:
    reason = Diagnostic("no", Severity.ERROR, "not both")

    def accept(_: MeshConfig, world: World) -> list[Diagnostic]:
        opened = [each for each in world.policies.values() if each.mode is Mode.PERMISSIVE]
        return [reason] if len(opened) == 2 else []

    following = Followed(look({"a.yaml": of(0, "STRICT"), "b.yaml": of(1, "STRICT")}), accept=accept)
    after = look({"a.yaml": of(0, "PERMISSIVE"), "b.yaml": of(1, "PERMISSIVE")})
    told = [each for now in (1.0, 1.0 + SETTLE_SECONDS, 60.0) for each in following.see(after, now=now).held]
    assert modes(following) == {"p0": Mode.STRICT, "p1": Mode.STRICT}
    assert told == [reason, reason]


def test_an_edit_of_one_file_of_many_is_that_file_s_change_and_looks_at_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {f"{number:03}.yaml": of(number, "PERMISSIVE") for number in range(300)}
    first = look(before)
    following = Followed(first)
    edited = Look({**first.files, "007.yaml": look({"007.yaml": of(7, "STRICT")}).files["007.yaml"]})
    seen: list[Sighting | None] = []
    see = FollowedFile.see

    def counted(file: FollowedFile, sighting: Sighting | None, *, now: float) -> bool:
        seen.append(sighting)
        return see(file, sighting, now=now)

    monkeypatch.setattr(FollowedFile, "see", counted)
    news = following.see(edited, now=10.0)
    assert [(change.source, len(change.objects)) for change in news.changes] == [("file:007.yaml", 1)]
    assert seen == [edited.files["007.yaml"]]
    following.see(edited, now=20.0)
    seen.clear()
    assert following.see(edited, now=30.0) == News()
    assert seen == [], "nothing stirs"


def test_a_document_that_moves_to_another_file_is_one_step_in_which_it_never_goes() -> None:
    both = documents(of(0, "STRICT"), of(1, "STRICT"))
    following = Followed(look({"a.yaml": both, "b.yaml": of(2, "STRICT")}))
    after = look({"a.yaml": of(1, "STRICT"), "b.yaml": documents(of(2, "STRICT"), of(0, "STRICT"))})
    news = following.see(after, now=1.0)
    assert {change.source for change in news.changes} == {"file:a.yaml", "file:b.yaml"}
    assert modes(following) == {"p0": Mode.STRICT, "p1": Mode.STRICT, "p2": Mode.STRICT}


STRICT_AND_MORE = of(0, "STRICT") + "# the end\n"


@pytest.mark.parametrize(
    ("now", "is_followed"),
    [
        (of(0, "PERMISSIVE").rstrip("\n"), True),  # it says something else: that its last line is not ended is its way
        (of(0, "STRICT").rstrip("\n"), True),  # the cut is at a line's end
        (of(0, "STRICT").removesuffix("ICT\n"), False),  # in the middle of a word
        (STRICT_AND_MORE.removesuffix("end\n"), False),
        (of(0, "STRICT").removesuffix("    mode: STRICT\n"), True),
        ("\n \n", False),
    ],
)
def test_only_what_ends_inside_a_line_of_what_it_said_is_taken_for_unfinished(now: str, is_followed: bool) -> None:
    following = Followed(look({"a.yaml": STRICT_AND_MORE}))
    following.see(look({"a.yaml": now}), now=10.0)
    news = following.see(look({"a.yaml": now}), now=10.0 + SETTLE_SECONDS)
    assert bool(news.held) is not is_followed
    said = DocumentReader().stream(now.encode(), file="a.yaml")
    expected = [obj for document in said for obj in document.objects] if is_followed else []
    in_force = [obj for obj in following.objects if isinstance(obj, PeerAuthentication)]
    assert in_force == expected or (not is_followed and modes(following) == {"p0": Mode.STRICT})


def test_a_folder_that_cannot_be_read_holds_what_its_own_files_said_and_nothing_of_its_namesakes() -> None:
    before = {"pol/a.yaml": of(0, "STRICT"), "policies.yaml": of(1, "STRICT")}
    following = Followed(look(before))
    gone = look({"policies.yaml": of(1, "PERMISSIVE")}, unreadable="pol")
    following.see(gone, now=10.0)
    news = following.see(gone, now=20.0)
    assert modes(following) == {"p0": Mode.STRICT, "p1": Mode.STRICT}, "what loosens waits for the folder"
    assert [(each.origin.file, each.code) for each in news.held] == [
        ("", UNREADABLE.code),
        ("policies.yaml", "file-waits"),
    ]
    following.see(look({"policies.yaml": of(1, "PERMISSIVE")}), now=30.0)
    following.see(look({"policies.yaml": of(1, "PERMISSIVE")}), now=40.0)
    assert modes(following) == {"p1": Mode.PERMISSIVE}, "readable again, and the file in it is gone"
