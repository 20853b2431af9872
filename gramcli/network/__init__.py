"""The trained network: built, loaded, its activations recorded."""
