"""Commands that fill the model repository, check it and pass it on: export, models, verify, preload, bundle, web."""
