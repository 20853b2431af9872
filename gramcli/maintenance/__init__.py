"""Looking at a cache, checking it, and mending it."""
