"""Benchmarks behind documented figures of speed."""
