"""Helpers of the tests: factories, simulated searches, servers, files of data sets."""
