"""Measure how well out-of-distribution sounds are told from known ones."""
