"""Who runs what, when and where: workers, leases, circuit breakers, progress."""
