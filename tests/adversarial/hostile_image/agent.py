"""Says who it is, where, and what became of what its image asked for."""
import os
import time

time.sleep(1.2)
if os.path.exists("/tmp/health-check-ran"):
    print("BREACH: the health check ran")
print(f"uid={os.getuid()} cwd={os.getcwd()}")
print("shim=" + open("/proc/1/cmdline").read().split("\0")[4])
print("planted=" + ("image" if "BREACH" in open("/opt/agenttrace/shim.py").read() else "ours"))
kinds = {line.split()[1]: line.split()[2] for line in open("/proc/mounts")}
print("volume=" + kinds.get("/data", "?"))
