"""Training a network from nothing. Only `gramcli.training.classifier` and `gramcli.training.fitting` need Lightning."""
