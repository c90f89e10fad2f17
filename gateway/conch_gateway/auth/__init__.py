"""API keys: their file, the keyring in service, quotas, and the check of each request."""
