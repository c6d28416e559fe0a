"""Documents from files: text to values with positions (`text`, `scalars`, `yamltree`, `blockyaml`), and what reads and
watches paths (`files`).

All but `files` are pure. Nothing here knows a kind: what a document means is `model/schema`'s.
"""
