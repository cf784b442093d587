"""`python -m dpiqa.cli`."""

from dpiqa.cli.main import main

main()
