"""The fast reader says nothing that the exact one does not say: same values, same types, same positions."""

from __future__ import annotations

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from judges.places import same_places
from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.text import Chunk
from peerauth.sources.yamltree import Document, read_exactly

SCALARS = [
    *("", "a", "a b", "a  b", "yes", "no", "on", "y", "N", "true", "False", "~", "null", "Null", "x # c", "x#c", "#c"),
    *(
        "8080",
        "0o17",
        "017",
        "089",
        "1_000",
        "0x1F",
        "0b11",
        "-1",
        "+1",
        "-",
        "--flag",
        ".5",
        "1.",
        "1.0",
        "1e3",
        "1e400",
    ),
    *(".inf", "-.INF", ".nan", "2001-01-01", "12:30:45", "190:20:30", "12345678901234567890123", "<<", "=", "-0", "_1"),
    *(
        "'a'",
        "'a''b'",
        '"a"',
        '"a\\n"',
        '"a',
        "'a",
        '"a" x',
        '""',
        "''",
        "{}",
        "[]",
        "{a: 1}",
        "[1, 2]",
        "{",
        "]",
        "{} x",
    ),
    *(
        "&x a",
        "*x",
        "!t a",
        "!!str 1",
        "|",
        ">-",
        "%a",
        "@a",
        "`a",
        "?a",
        "? a",
        ":a",
        ": a",
        "a: b",
        "a:b",
        "a :b",
        "a ,b",
    ),
    *(
        "http://a/b?c=d#e",
        "image:1.2",
        "a\tb",
        "\ta",
        "a\t",
        "é",
        "a\x85b",
        "a\x0bb",
        "\ufeffa",
        "---",
        "...",
        "-a",
        "- a",
    ),
    *("$(x)", "a,b", "a]b", "a'b", 'a"b', "a|b", "\\d", "^a$", "a " * 3, "key:", "'a': b", "x: y: z", "a &b *c !d"),
]
KEYS = [
    *(
        "a",
        "b",
        "c",
        "8080",
        "'8080'",
        '"8080"',
        "on",
        "true",
        "~",
        "1.5",
        ".inf",
        "<<",
        "a b",
        "a/b",
        "a.b/c-d",
        "0x50",
    ),
    *(
        '"a"',
        '"true"',
        '"a b"',
        "'a'",
        "-a",
        "? a",
        "é",
        "_a",
        "1e3",
        "[a]",
        "*x",
        "&x a",
        "!!str a",
        ".",
        "",
        "k" * 300,
    ),
]
lines = st.one_of(
    st.builds(
        lambda indent, dash, key, gap, value, end: f"{indent}{dash}{key}:{gap}{value}{end}",
        st.sampled_from(["", "  ", "    ", " ", "   ", "\t", "      "]),
        st.sampled_from(["", "", "", "- ", "-  ", "-", "- - ", "-\t"]),
        st.sampled_from(KEYS),
        st.sampled_from([" ", " ", "  ", "", "\t"]),
        st.sampled_from(SCALARS),
        st.sampled_from(["", "", "", " ", " # c", " #", "#", "\t", " # é"]),
    ),
    st.builds(
        lambda indent, dash, value: indent + dash + value,
        st.sampled_from(["", "  ", "    ", " "]),
        st.sampled_from(["", "- ", "- ", "-   "]),
        st.sampled_from(SCALARS),
    ),
    st.sampled_from(["", " ", "# c", "  # c", "#\t", "--- # c", "---", "--- a", "...", "   \t"]),
)
any_text = st.builds("\n".join, st.lists(lines, max_size=8))

names = st.sampled_from(["a", "b", "c", "8080", "on", "app.kubernetes.io/name"])
simple_lines = st.builds(
    lambda depth, dash, key, value: "  " * depth + dash + key + ":" + (" " + value if value else ""),
    st.integers(0, 3),
    st.sampled_from(["", "", "- "]),
    names,
    st.sampled_from(["", "", "x", "8080", "yes", '"q"', "{}"]),
)
plausible_text = st.builds("\n".join, st.lists(simple_lines, min_size=1, max_size=10))

trees = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-10, 70000), st.sampled_from(["a", "STRICT", "yes", "1", "a b", ""])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)

warm = BlockReader()
"""Used by every example, so that what it remembers of one document is tried on the next."""


def agree(text: str) -> bool:
    """Whether the fast reader took the text at all; what it makes of it must be what the exact reader does."""
    chunk = Chunk(text, 7, "f.yaml")
    taken = False
    for reader in (BlockReader(), warm):
        fast = reader.read(chunk)
        if fast is None:
            continue
        taken = True
        exact = read_exactly(chunk)
        assert isinstance(exact, Document), (text, exact)
        assert repr(fast.value) == repr(exact.value), text
        same_places(fast.value, (), fast.place, exact.place)
    return taken


@settings(max_examples=1500, deadline=None)
@given(any_text)
@example("a: 1\n b: 2")
@example("a:\n- b\n-  c: d\n   e: f\nx: y")
@example("a:\n  b\nc: d")
@example("--- # c\n  a: b\n\n  c:\n    - d # e")
@example("a: b\nc")
@example("- a\n- \n- b")
def test_the_readers_agree_on_any_text_that_the_fast_one_takes(text: str) -> None:
    agree(text)


@settings(max_examples=1500, deadline=None)
@given(plausible_text)
def test_the_readers_agree_on_every_indentation(text: str) -> None:
    agree(text)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.dictionaries(names, trees, min_size=1, max_size=5), st.lists(trees, min_size=1, max_size=3)))
def test_the_readers_agree_on_what_a_serializer_writes(tree: object) -> None:
    agree(yaml.safe_dump(tree))
    agree(yaml.safe_dump(tree, indent=4, default_style='"'))


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet=" -:#'\"{}[]&*!|>%@`\n\tabc01.~é", max_size=40))
def test_the_readers_agree_on_noise(text: str) -> None:
    agree(text)


def test_the_fast_reader_takes_what_manifests_are_written_in() -> None:
    """Or the comparison above would compare nothing."""
    assert agree("a: b\nc:\n  - d: 8080\n    e: 'x'\n  - f # g\nh: {}\n\n# i\nj:\n- k\n")
    assert agree('---\nmetadata:\n  name: x\nspec:\n  image: registry:5000/a/b:1.2\n  url: "http://a/?b=c"\n')


def test_one_port_in_two_spellings_is_left_to_the_exact_reader_which_refuses_it() -> None:
    assert not agree('a:\n  8080: x\n  "8080": y\n')
    assert not isinstance(read_exactly(Chunk('a:\n  8080: x\n  "8080": y\n')), Document)
