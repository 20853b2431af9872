"""Measures of how good decisions are. Arrays only."""
