"""A model of the repository as config.pbtxt describes it, run by onnxruntime.

Independent of Triton's python stub (only `model.py` knows that), so it can be tested by itself. It imports no more than
numpy and onnxruntime, because every model instance is a process of its own that pays for its imports.
"""
