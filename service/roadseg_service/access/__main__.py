"""`python -m roadseg_service.access NAME ROLE`: make a key, and the line for the file of keys."""

import argparse
import hashlib
import secrets

from roadseg_service.access.callers import Role
from roadseg_service.access.keys import KEY_NAME

_KEY_BYTES = 32


def main() -> None:
    """Print a new key once, and what the file needs of it."""
    parser = argparse.ArgumentParser(
        prog="python -m roadseg_service.access",
        description="Make an API key. The key goes to who will use it; the line, which does not tell the key, into "
        "the file that api_keys_file names.",
    )
    parser.add_argument("name", help="for logs and limits: letters, digits and ._-")
    parser.add_argument("role", choices=[role.value for role in Role], help="admin keys may also swap the model")
    arguments = parser.parse_args()
    if not KEY_NAME.fullmatch(arguments.name):
        parser.error(f"'{arguments.name}' is not 1 to 64 of letters, digits and ._-")
    key = secrets.token_urlsafe(_KEY_BYTES)
    print(f"key:  {key}")
    print(f"line: {arguments.name}:{arguments.role}:sha256:{hashlib.sha256(key.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
