"""Passwords that are guessed first: the words of a list, and what people make of them to please a rule."""

ADDED = 6  # digits and signs around a word of the list that do not make it uncommon
DIFFERENT = 4  # characters at least: fewer are a pattern, blanks included
ROWS = ["abcdefghijklmnopqrstuvwxyz", "01234567890"]  # of the alphabet and of keyboards
ROWS += ["qwertyuiop", "asdfghjkl", "zxcvbnm", "azertyuiop", "qsdfghjklm", "qwertzuiop"]
LOOKS = str.maketrans("@4831!05$7", "aabeiiosst")  # what stands for a letter that it looks like


def common(password: str, words: set[str]) -> bool:
    """Tell if a password is in a list of common ones, in lower case, or is made from one of them by a usual rule.

    The rules: letters written as digits and signs, a few digits and signs around, a part repeated, a run of a keyboard or
    of the alphabet in either direction, fewer than four different characters.
    """
    text = password.lower()
    if text in words or len(set(text)) < DIFFERENT or text in (text + text)[1:-1]:
        return True
    if any(text in run + run for row in ROWS for run in (row, row[::-1])):
        return True
    return any(len(text) - len(stem) <= ADDED and stem in words for stem in _stems(text))


def _stems(text: str) -> set[str]:
    """What is left without digits and signs at both ends, as written and with letters for what looks like them."""
    around = "".join({character for character in text if not character.isalpha()})
    left, right = text.lstrip(around), text.rstrip(around)
    stems = {text, left, right, left.rstrip(around)}
    return stems | {stem.translate(LOOKS) for stem in stems}
