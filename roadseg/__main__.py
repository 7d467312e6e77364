"""`python -m roadseg` is the `roadseg` command; Lightning starts the further processes of a DDP run this way."""

import sys

from roadseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
