"""Statistical models that know nothing of sound. Arrays only."""
