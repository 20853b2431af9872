"""Apply a calibrated network to new recordings."""
