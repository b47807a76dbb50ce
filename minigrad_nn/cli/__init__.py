"""The `minigrad` command.  `main` reads the command line; each command has a file of its own.

Exit codes: 0 done; 1 it could not be done; 2 wrong arguments or input; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .errors import CommandError
from .options import add_commands

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code.

    Args:
        argv: the words after `minigrad`; those of this process if it is None.
    """
    parser = argparse.ArgumentParser(
        prog="minigrad",
        description="Deep learning from the scalar chain rule to trained networks.",
    )
    add_commands(parser)
    given = parser.parse_args(argv)
    try:
        return int(given.run(given))
    except CommandError as error:
        print(f"minigrad {given.command}: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"minigrad {given.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `minigrad doctor | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
