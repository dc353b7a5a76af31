"""``python -m firmware_bridge`` is ``outpost-sim``."""

from firmware_bridge.cli import main

if __name__ == "__main__":
    main()
