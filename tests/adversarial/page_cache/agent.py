"""Reads every file that it finds, so that the page cache fills the limit: no breach."""
import os

count = 0
for top in ("/usr", "/var", "/etc"):
    for directory, _, names in os.walk(top):
        for name in names:
            try:
                with open(os.path.join(directory, name), "rb", buffering=0) as file:
                    while data := file.read(1 << 20):
                        count += len(data)
            except OSError:
                continue
print(count)
