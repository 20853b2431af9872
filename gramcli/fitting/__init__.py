"""Statistical models on arrays: weights, temperatures, covariances, features and cross-fitting. They know no audio."""
