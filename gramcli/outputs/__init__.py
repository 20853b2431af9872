"""Files that other programs take predictions in."""
