"""`python -m luhuo`."""

from luhuo.cli import main

main()
