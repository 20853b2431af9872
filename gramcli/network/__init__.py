"""The network: built, loaded with weights, its activations found and their descriptors recorded."""
