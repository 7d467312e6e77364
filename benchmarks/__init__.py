"""Benchmarks: each prints a table, writes JSON, and measures its peers in the same run."""
