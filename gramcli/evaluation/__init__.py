"""Measure decisions on labelled clips, and compare them with the network alone and with other classifiers."""
