"""Which clips there are, what they are called, and in which split each one is."""
