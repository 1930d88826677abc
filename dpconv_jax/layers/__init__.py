"""The paper's layers: partial convolution, attention, normalisation. NHWC; mask 1 = valid, 0 = hole."""
