"""The composition roots: where sources, the mesh on this machine, the authority and who looks on are put together.

Only this package (and `cli/` above it) sees all the others; `settings` is the only reader of the environment.
"""
