"""How a network is trained: the experiment, the losses, the step, the loop, and what a run leaves in its folder."""
