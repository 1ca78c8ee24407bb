"""A tree deeper than any path may be long, and beside it more files than anybody wants."""
import os

os.chdir("/output")
for number in range(20_000):
    open(f"{number:05}", "w").close()
os.mkdir("deep")
os.chdir("deep")
try:
    for _ in range(300):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
except OSError as error:
    print(error)
print("42")
