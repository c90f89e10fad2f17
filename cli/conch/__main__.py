"""`python -m conch`."""

from conch.app import main

main()
