"""How good decisions are on labelled clips, beside the network alone and beside other classifiers."""
