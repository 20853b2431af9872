"""The paper's equations on arrays: descriptors, class bounds, deviations, layer ranking and total deviation."""
