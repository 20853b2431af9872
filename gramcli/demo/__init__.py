"""Synthetic sounds and a small trained network, to see the whole way in a minute."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("small_cnn.safetensors")
"""The small network, as `gramcli.demo.train` trained it."""
