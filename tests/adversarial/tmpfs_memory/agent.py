"""Fills its writable files beyond the memory limit: pages that no kill of a process frees."""
block = b"x" * (1 << 20)
for place in ("/tmp/a", "/output/a", "/dev/shm/a"):
    with open(place, "wb") as file:
        try:
            while True:
                file.write(block)
        except OSError:
            continue
print("42")
