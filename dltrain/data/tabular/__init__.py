"""Tables and time series: data sets."""
