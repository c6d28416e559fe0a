"""Precedence: from policies and workloads to decisions. The only place that knows it.

Everything here is pure; `index` is a state machine without I/O. Renderers receive decisions, never policies.
"""
