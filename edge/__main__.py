"""`python -m edge` is `outpost-station`."""

from edge.cli import main

if __name__ == "__main__":
    main()
