"""What every request passes before its route: HTTP framing, paths, time limits, body limits."""
