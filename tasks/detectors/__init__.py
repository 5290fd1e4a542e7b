"""Detectors of drift, bursts, changes of regime and divergence: pure steps on small states."""
