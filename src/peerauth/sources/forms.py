"""Documents of one form, checked once: those that follow are made by the recipe that the first one taught.

Two documents are of one form when their lines have the same heads (`blocklayout`), and the lines whose values were
looked at are the same. Names, labels and what no one reads may differ. What finds no recipe is checked as ever, and so
is whatever has a fault. Property tests hold every recipe to the check of the document itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from peerauth.model.schema import Checked, check
from peerauth.model.schema.recipe import Recipe, learn
from peerauth.model.schema.watched import Lines, Watch, WatchedList, WatchedMapping
from peerauth.sources.blocklayout import Layout, Node
from peerauth.sources.blockyaml import BlockDocument

MOST_RECIPES = 1 << 12
MOST_RECIPES_OF_LAYOUT = 64
SEEN_BEFORE = 2
"""Documents of a layout that are checked before one is watched: most layouts of a small mesh occur once."""

ON_TRUST = 4
"""Recipes of a layout that are learnt before one was of use; then one more for each document that was made by one, so
that documents without a form in common cost little more than their checks.
"""

Looks = Callable[[Sequence[str]], object]


class _Forms:
    """The recipes of one layout: by which lines they look at, and by those lines."""

    __slots__ = ("followed", "known", "learnt", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self.learnt = 0
        self.followed = 0
        self.known: dict[tuple[int, ...], tuple[Looks, dict[object, Recipe]]] = {}

    @property
    def may_learn(self) -> bool:
        """Whether another recipe is likely to be of use."""
        most = min(ON_TRUST + self.followed, MOST_RECIPES_OF_LAYOUT)
        return self.seen >= SEEN_BEFORE and self.learnt < most


class FormReader:
    """Checks documents, and remembers forms from one to the next. Its memory is bounded."""

    def __init__(self, *, default_namespace: str) -> None:
        self.default_namespace = default_namespace
        self._forms: dict[Layout, _Forms] = {}
        self._learnt = 0

    def check(self, document: BlockDocument) -> Checked:
        """What the document says."""
        forms = self._forms.get(document.layout)
        if forms is None:
            if self._learnt > MOST_RECIPES or len(self._forms) > MOST_RECIPES:
                self._forms, self._learnt = {}, 0
            forms = self._forms[document.layout] = _Forms()
        for looks, recipes in forms.known.values():
            recipe = recipes.get(looks(document.rows))
            if recipe is not None:
                made = recipe.follow(document.values, file=document.chunk.file, line=document.chunk.line)
                if made is not None:
                    forms.followed += 1
                    return made
        checked = check(document.value, place=document.place, default_namespace=self.default_namespace)
        forms.seen += 1
        if forms.may_learn and not checked.diagnostics:
            self._learn(document, forms)
        return checked

    def _learn(self, document: BlockDocument, forms: _Forms) -> None:
        forms.learnt += 1
        self._learnt += 1
        watch = Watch()
        value = _watched(document.layout.root, document.values, watch)
        checked = check(value, place=document.place, default_namespace=self.default_namespace)
        recipe = learn(checked, watch, file=document.chunk.file, line=document.chunk.line)
        if recipe is not None:
            lines = tuple(sorted(watch.looked_at))
            looks, recipes = forms.known.setdefault(lines, (itemgetter(*lines) if lines else tuple, {}))
            recipes[looks(document.rows)] = recipe


def _watched(node: Node, values: Sequence[object], watch: Watch) -> object:
    """A container of a document, watched."""
    entries: dict[str | int, object] = {}
    lines: Lines = {}
    for step, (at, child) in node.slots.items():
        if child is None:
            lines[step] = at
        entries[step] = values[at] if child is None else _watched(child, values, watch)
    if node.is_list:
        return WatchedList(list(entries.values()), lines, watch)
    return WatchedMapping({str(key): value for key, value in entries.items()}, lines, watch)
