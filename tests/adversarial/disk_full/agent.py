"""Writes wherever it can until nothing more fits, and dies of it."""
import os

for top in ("/", "/usr", "/etc", "/var", "/opt/agenttrace", "/root", "/run", "/sys", "/dev"):
    try:
        open(os.path.join(top, "agent-was-here"), "w").close()
        print("BREACH: wrote to", top, flush=True)
    except OSError:
        continue
block = b"x" * (1 << 20)
with open("/output/big", "wb") as file:
    while True:
        file.write(block)
