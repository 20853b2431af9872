"""Cache and network packed for use elsewhere."""
