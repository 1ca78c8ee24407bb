"""Makes empty files until there is no room for a name."""
for number in range(1_000_000):
    open(f"/tmp/{number}", "w").close()
print("42")
