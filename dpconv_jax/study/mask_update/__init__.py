"""Fig. 6: how many layers the mask update takes to fill holes of each size."""
