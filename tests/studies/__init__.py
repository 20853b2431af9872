"""Studies behind documented figures of quality."""
