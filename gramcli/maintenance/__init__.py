"""Describe, check, repair and clean up a cache."""
