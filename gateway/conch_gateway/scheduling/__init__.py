"""Who computes when: admission, queues, fair slots, throughput."""
