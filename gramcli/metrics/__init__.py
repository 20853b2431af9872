"""Figures of merit of classification and out-of-distribution scores, with intervals; on arrays alone."""
