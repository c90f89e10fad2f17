"""Load on a served model: texts, targets, clients and the result of `conch bench`."""
