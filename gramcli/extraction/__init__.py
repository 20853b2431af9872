"""From the clips of a manifest to descriptors in the cache."""
