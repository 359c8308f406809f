"""Names of classes in one form, whatever a folder or a CSV file calls them."""

import string
from collections.abc import Collection

LETTERS = tuple(string.ascii_uppercase)
# J and Z are drawn in the air: a row of Sign-MNIST cannot show them.
STILL_LETTERS = tuple(letter for letter in LETTERS if letter not in "JZ")
OTHERS = ("Del", "Nothing", "Space")
KNOWN = (*LETTERS, *string.digits, *OTHERS)

_ALIASES = {"delete": "Del", "blank": "Nothing", "background": "Nothing"} | {name.lower(): name for name in KNOWN}


def class_name(name: str, allowed: Collection[str] = ()) -> str | None:
    """The one form of a class's name: ``a`` is ``A``, ``delete`` is ``Del``, ``Blank`` is ``Nothing``.

    Args:
        name: as a folder is called.
        allowed: names beyond letters, digits, Del, Nothing and Space; taken as they are.

    Returns:
        None where it is no class.
    """
    return name if name in allowed else _ALIASES.get(name.strip().lower())
