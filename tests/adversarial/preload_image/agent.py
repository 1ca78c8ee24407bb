"""Preloaded itself; looks whether PID 1 is. An open file of the image keeps its inode busy: none may."""
import os

print("mine=" + ("preloaded" if "evil.so" in open("/proc/self/maps").read() else "clean"))
size = int(open("/proc/1/statm").read().split()[2])
print("shim=" + ("clean" if "evil" not in open("/proc/1/cmdline").read() else "BREACH"), size)
