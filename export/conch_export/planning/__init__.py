"""Memory of models, planned and measured."""
