"""Synthetic sounds and a small trained network, to see the whole way in a minute."""
