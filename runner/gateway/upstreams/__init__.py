"""Where models are: providers over HTTP, and rules that need no network."""
