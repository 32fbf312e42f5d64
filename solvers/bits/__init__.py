"""0/1 features of a first layer, 64 to a word: computed, counted and compared exactly."""
