"""Touches memory until it is killed."""
hoard = []
while True:
    hoard.append(bytearray(b"x") * (4 << 20))
