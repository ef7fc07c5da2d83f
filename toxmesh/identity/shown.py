"""What strangers wrote, as a terminal may show it."""


def one_line(text: str) -> str:
    """Returns a stranger's text in one line, without anything that moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
