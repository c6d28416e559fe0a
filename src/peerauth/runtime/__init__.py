"""The composition roots: where sources, policy, renderers, xDS, the authority and the proxies are put together.

Only this package (and `cli/` above it) sees all the others; `settings` is the only reader of the environment.
"""
