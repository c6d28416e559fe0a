"""The mesh on this machine: where workloads live, agents and proxies beside them, example applications, the proof."""
