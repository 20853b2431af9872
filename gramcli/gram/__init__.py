"""Arrays only: the descriptor, the bounds, the deviation, the ranking. To be read beside the paper."""
