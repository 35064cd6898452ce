"""The line: lobby, draw, turn, admission."""
