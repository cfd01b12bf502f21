"""The families of architectures, one module each. Adding one is adding a module that defines ``FAMILY``."""
