"""`python -m minigrad_nn.cli` is the `minigrad` command."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
