"""What runs next to a workload: the proxy's supervisor, capture, network namespaces, certificates over SDS."""
