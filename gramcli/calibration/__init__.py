"""Calibration: from descriptors and labels in a cache to statistics, a layer ranking and a fitted rule."""
