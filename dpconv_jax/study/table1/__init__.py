"""Table 1: methods by datasets, on the same holes."""
