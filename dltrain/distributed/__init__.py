"""Several processes that train one run together, through torch.distributed."""
