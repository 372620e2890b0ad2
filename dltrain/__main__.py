"""`python -m dltrain` is `dltrain`."""

from dltrain.cli import entry

if __name__ == "__main__":
    entry()
