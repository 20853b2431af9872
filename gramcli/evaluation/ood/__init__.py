"""Measure how well out-of-distribution sounds are distinguished from known ones."""
