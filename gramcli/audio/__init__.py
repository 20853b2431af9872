"""Audio files: found, checked, decoded in processes of their own, resampled and cut into windows. Without torch."""
