"""The simulation of `conch plan` beside measurements, and where one gateway, one load balancer and one region end."""
