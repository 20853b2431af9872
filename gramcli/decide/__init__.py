"""Decisions from evidence: what is fitted on validation clips, and how it is kept honest. Pure arrays."""
