.PHONY: help
help:
	@echo "make demo | test | test-all | lint | bench | clean"
