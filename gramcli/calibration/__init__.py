"""From stored descriptors and labels to statistics, a layer ranking and a fitted rule."""
