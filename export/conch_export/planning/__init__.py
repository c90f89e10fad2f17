"""What an export and its models will take: memory, measured and planned."""
