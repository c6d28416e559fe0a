"""Ambient mode: what one proxy of a node is told about all of its workloads. Pure renderers."""
