"""Takes all inotify instances of its user id: the kernel counts them for each user, not container."""
import ctypes
import time

libc = ctypes.CDLL(None)
mine = 0
while libc.inotify_init() >= 0:
    mine += 1
time.sleep(1.5)
print(mine if mine >= 100 else f"BREACH: {mine} left for me, another attempt has the rest")
