"""Run the command line with `python -m fieldtune`."""

from fieldtune.cli import main

if __name__ == "__main__":
    main()
