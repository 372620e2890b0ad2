"""The functions of the Python API, one subject a file; `dltrain/__init__.py` exports them."""
