"""Compute the descriptors of the clips of a manifest and keep them in the cache."""
