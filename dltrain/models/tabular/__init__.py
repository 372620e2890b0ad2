"""Tables and time series: models."""
