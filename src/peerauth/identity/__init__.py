"""Workload identities: SPIFFE names, X.509 certificates and the schedule of their renewal. No I/O, no clock."""
