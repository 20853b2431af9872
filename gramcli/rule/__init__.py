"""The parts of a decision rule: evidence and its weights, discriminant, size correction, strangeness and threshold."""
