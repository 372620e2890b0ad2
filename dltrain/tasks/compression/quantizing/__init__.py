"""From a trained network to a quantized one: calibration, conversion, stages, comparison."""
