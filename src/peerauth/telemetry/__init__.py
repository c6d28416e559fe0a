"""What proxies saw, read back: the logs of Envoys and ztunnels, and Envoy's counters, as typed values. Pure."""
