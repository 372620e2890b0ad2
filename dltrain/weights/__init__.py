"""Initial weights of a model, and which of them are trained."""
