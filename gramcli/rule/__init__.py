"""The parts of a decision rule, each fitted on validation clips. Arrays only."""
