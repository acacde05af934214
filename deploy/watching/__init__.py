"""Figures of what runs: sampled, shown in a terminal, told to Prometheus."""
