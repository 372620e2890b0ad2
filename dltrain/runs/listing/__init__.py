"""Many runs at once: a summary of each, an index of them, and what is shown of them."""
