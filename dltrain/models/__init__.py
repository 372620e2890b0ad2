"""Networks, in families of the data that they are for."""
