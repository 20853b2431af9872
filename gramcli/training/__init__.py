"""Trains a network from random weights; `lightning_module` and `trainer` need the extra ``train``."""
