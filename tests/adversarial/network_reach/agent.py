"""Tries to reach anything that is not itself."""
import os
import socket
import struct

def attempt(what, act):
    try:
        act()
    except OSError as error:
        print("refused:", what, error)
    else:
        print("BREACH:", what)

def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    def act():
        with socket.socket(family, kind) as sock:
            sock.settimeout(0.5)
            sock.connect(address)
    return act

def send(address, family=socket.AF_INET):
    def act():
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"hello", address)
    return act

for host in ("172.17.0.1", "172.18.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "168.63.129.16", "8.8.8.8", "1.1.1.1", "224.0.0.1", "255.255.255.255"):
    for port in (22, 53, 80, 443, 2375, 2376, 8080):
        attempt(f"tcp {host}:{port}", connect((host, port)))
    attempt(f"udp {host}", send((host, 53)))
for host in ("fe80::1", "fd00:ec2::254", "2001:4860:4860::8888", "ff02::1"):
    attempt(f"tcp [{host}]", connect((host, 80, 0, 1), socket.AF_INET6))
    attempt(f"udp [{host}]", send((host, 53, 0, 1), socket.AF_INET6))
for name in ("example.com", "host.docker.internal", "gateway.docker.internal", "metadata.google.internal"):
    attempt(f"name {name}", lambda: socket.getaddrinfo(name, 80))
for port in (22, 53, 2375, 2376, 5000, 8080, 9000):
    attempt(f"loopback {port}", connect(("127.0.0.1", port)))
for context in (0, 1, 2, 3, 0xFFFFFFFF):
    attempt(f"vsock {context}", connect((context, 1024), socket.AF_VSOCK))
kinds = {"packet": 17, "netlink route": 16, "key": 15, "bluetooth": 31, "alg": 38, "can": 29, "tipc": 30, "xdp": 44, "smc": 43, "rds": 21, "ax25": 3, "x25": 9, "appletalk": 5, "nfc": 39, "qipcrtr": 42, "mctp": 45}
for name, family in kinds.items():
    if name != "netlink route":
        attempt(f"family {name}", lambda: socket.socket(family, socket.SOCK_RAW if name == "packet" else socket.SOCK_DGRAM))
for protocol in (1, 6, 255):
    attempt(f"raw ip {protocol}", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1))
for protocol in (2, 4, 5, 9, 10, 11, 12, 15, 16, 20):
    attempt(f"netlink {protocol}", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
    attempt(path, connect(path, socket.AF_UNIX))
for name in ("/containerd-shim", "docker", "/tmp/.X11-unix/X0", "/tmp/dbus-test", "agenttrace"):
    attempt(f"abstract {name}", connect("\0" + name, socket.AF_UNIX))
for line in open("/proc/net/unix").read().splitlines()[1:]:
    fields = line.split()
    if len(fields) > 7:
        attempt(f"listed {fields[7]}", connect(fields[7].replace("@", "\0"), socket.AF_UNIX))
for line in open("/proc/net/dev").read().splitlines()[2:]:
    if line.split(":")[0].strip() != "lo":
        print("BREACH: interface", line.split(":")[0])
print("routes:", len(open("/proc/net/route").read().splitlines()) - 1)
