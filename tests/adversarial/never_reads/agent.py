"""Never reads what it is asked."""
import time

time.sleep(0.3)
print("42")
