"""Benchmarks: `make bench-NAME`, or `.venv/bin/python -m bench.NAME` in the repository's folder."""
