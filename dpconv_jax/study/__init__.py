"""What the paper shows: its figures and its studies."""
