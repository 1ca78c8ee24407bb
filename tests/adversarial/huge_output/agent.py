"""An answer of two bytes more than is allowed, cut in the middle of a character."""
import sys

sys.stdout.write("x" * 49_999 + "\u20ac")
