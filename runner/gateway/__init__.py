"""All that a network-less agent can reach: models and tools, metered, limited and recorded."""
