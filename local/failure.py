"""What stops a command and is no defect."""


class Failure(Exception):
    """Its text is one sentence for the person who gave the command; no trace would help them."""
