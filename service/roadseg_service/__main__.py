"""`python -m roadseg_service`: serve with settings from the environment."""

import sys

from roadseg.errors import RoadsegError
from roadseg_service.serve import run
from roadseg_service.settings import load_settings


def main() -> int:
    """Serve; the exit status is 2 when that cannot begin."""
    try:
        run(load_settings())
    except RoadsegError as error:
        print(f"roadseg: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
