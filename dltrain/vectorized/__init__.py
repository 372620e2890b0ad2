"""Several runs trained as one program: their weights are stacked, and torch.func maps over them."""
