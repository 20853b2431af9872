"""The operating system: durable files, memory allocation, time measurement, processor cores, installed versions."""
