"""The data set: clips from a manifest, their splits, and which of them a network was trained on."""
