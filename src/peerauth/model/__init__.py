"""What peerauth knows of the world, as frozen values: policies, workloads, services, the mesh configuration.

No precedence here (that is `policy/`), no I/O (that is `sources/` and `kube/`). `schema` is the only validator.
"""
