"""Messages about the hands that were found in photographs."""

from preprocessing.labels import NOTHING

Counts = dict[str, dict[str, int]]

# A class is named if no hand was found in more than this fraction of its pictures.
MAX_MISSING = 0.1
_NUM_NAMED = 5


def hand_notes(hands: dict[str, Counts]) -> list[str]:
    """One line per source that was searched for hands; pictures of the class Nothing need not have one.

    Args:
        hands: the numbers of pictures that were ``searched`` and in which a hand was ``found``, by source and class.
    """
    notes = []
    for source, by_class in hands.items():
        signs = {label: counts for label, counts in by_class.items() if label != NOTHING}
        searched = sum(counts["searched"] for counts in signs.values())
        found = sum(counts["found"] for counts in signs.values())
        if not searched:
            continue
        if not found:
            notes.append(
                f"{source}: no hand was found in any of {searched:,} photographs, so their centers were cropped:"
                " are these photographs of hands?"
            )
            continue
        note = f"{source}: a hand was found in {found:,} of {searched:,} photographs"
        if found < searched:
            note += "; of the others the center was cropped"
        missing = {label: 1 - counts["found"] / counts["searched"] for label, counts in signs.items()}
        often = sorted((label for label in missing if missing[label] > MAX_MISSING), key=lambda label: -missing[label])
        if often:
            named = [
                f"{label} ({signs[label]['searched'] - signs[label]['found']:,} of {signs[label]['searched']:,})"
                for label in often[:_NUM_NAMED]
            ]
            more = f" and {len(often) - _NUM_NAMED} more classes" if len(often) > _NUM_NAMED else ""
            note += f"; often not found for {', '.join(named)}{more}"
        notes.append(note)
    return notes
