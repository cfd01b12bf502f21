"""Numbers from the records of a search, without any printing: standings, intervals, fronts, spending, time left."""
