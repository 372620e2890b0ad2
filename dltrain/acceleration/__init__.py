"""Ways to run a step faster on one device: compilation, CUDA graphs, feeding, measured choices."""
