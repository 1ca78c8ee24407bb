"""Half a surrogate pair, encoded as if it were a character."""
import os

os.write(1, "42\ud800".encode("utf-8", "surrogatepass"))
