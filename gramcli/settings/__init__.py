"""All settings, and how the settings of a run are put together."""
