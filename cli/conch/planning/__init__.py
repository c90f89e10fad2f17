"""`conch plan`: what a model needs on a server or in a browser, and how many replicas a load needs."""
