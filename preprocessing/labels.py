"""Class names in one canonical form, regardless of the spelling in a folder name or CSV file."""

import string
from collections.abc import Collection

LETTERS = tuple(string.ascii_uppercase)
# J and Z are drawn in the air, so Sign-MNIST, which has still pictures, does not contain them.
STILL_LETTERS = tuple(letter for letter in LETTERS if letter not in "JZ")
NOTHING = "Nothing"
OTHERS = ("Del", NOTHING, "Space")
KNOWN = (*LETTERS, *string.digits, *OTHERS)

_ALIASES = {"delete": "Del", "blank": NOTHING, "background": NOTHING} | {name.lower(): name for name in KNOWN}


def class_name(name: str, allowed: Collection[str] = ()) -> str | None:
    """The canonical form of a class name: ``a`` becomes ``A``, ``delete`` ``Del`` and ``Blank`` ``Nothing``.

    Args:
        name: name of a folder.
        allowed: names beyond letters, digits, Del, Nothing and Space; they are not changed.

    Returns:
        The canonical name; None if the name is not a class.
    """
    return name if name in allowed else _ALIASES.get(name.strip().lower())
