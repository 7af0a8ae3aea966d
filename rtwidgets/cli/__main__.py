"""`python -m rtwidgets.cli`."""

import sys

from rtwidgets.cli import main

if __name__ == "__main__":
    sys.exit(main())
