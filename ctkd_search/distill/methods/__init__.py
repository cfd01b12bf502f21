"""The methods: how a lesson becomes a loss. Adding one is adding a module that defines ``METHOD``."""
