"""The data sets, one module each. Adding one is adding a module that defines ``DATASET``."""
