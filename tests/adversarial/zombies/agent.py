"""Leaves as many zombies as the limit allows: some with a living parent, some orphaned."""
import os

def swarm():
    made = 0
    try:
        while True:
            if os.fork() == 0:
                os._exit(0)
            made += 1
    except OSError:
        return made

if os.fork() == 0:
    print("orphans-to-be:", swarm(), flush=True)
    os._exit(0)
os.wait()
print("own zombies:", swarm())
