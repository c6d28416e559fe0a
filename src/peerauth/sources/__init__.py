"""Documents from files: text to values with positions (`text`, `scalars`, `yamltree`, `blockyaml`), what reads paths
once (`tree`, `regular`, `files`), and what follows them (`looking` and `watching` see, `following` judges).

Nothing here knows a kind: what a document means is `model/schema`'s. The readers of text and `following` are pure.
"""
