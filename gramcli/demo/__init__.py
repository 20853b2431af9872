"""The demo: synthetic sounds and a small trained network, to try every command within a minute."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("small_cnn.safetensors")
"""The small network, as `gramcli.demo.train` trained it."""
