"""`python -m dpiqa`: the command line."""

from dpiqa.cli.__main__ import main

if __name__ == "__main__":
    main()
