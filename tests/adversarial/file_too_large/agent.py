"""Grows one sparse file beyond the limit of a file's size."""
with open("/tmp/sparse", "wb") as file:
    file.truncate(1 << 40)
print("42")
