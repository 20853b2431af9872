"""From new recordings to predictions, with a calibrated network."""
