"""Files, memory, time and processor: what the operating system offers."""
