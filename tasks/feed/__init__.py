"""A venue's feed as it runs: connections, requests, clocks, latency.  Knows no table and no flow."""
