"""Every setting, and how the settings of a run come together."""
