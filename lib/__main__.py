"""Start the command line: `python -m lib`. What it can do is in `lib/cli`."""

from lib.cli import main

if __name__ == "__main__":
    main()
