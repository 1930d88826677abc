"""How good fills are: what fills, the metrics, and their values with intervals."""
