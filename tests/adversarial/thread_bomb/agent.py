"""Starts threads until no more can be had, and keeps them."""
import threading

while True:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
